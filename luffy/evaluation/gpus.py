"""How many GPUs one copy of the model takes, and how many copies run side by side."""

from __future__ import annotations

import logging
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from luffy.errors import InputError

NO_GPU = ("-1", "nodevfiles", "none", "void")  # what launchers write into CUDA_VISIBLE_DEVICES for none
MIG_LINE = re.compile(r"^\s+MIG\s+(?P<profile>\S+)\s+Device\s+\d+:\s+\(UUID:\s+(?P<uuid>[^)]+)\)")
GPU_LINE = re.compile(r"^GPU\s+\d+:.*\(UUID:\s+(?P<uuid>[^)]+)\)")
WEIGHTS_SHARE = 0.6  # of a GPU's memory; the rest is for the key-value cache and activations

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU, or a MIG part of one, that this process may use.

    Attributes:
        name: for ``CUDA_VISIBLE_DEVICES``; a number is that of ``nvidia-smi``.
        memory: in bytes; 0 where the driver does not say.
    """

    name: str
    memory: int


def share_out(
    gpus: Sequence[Gpu],
    *,
    weight_bytes: int,
    attention_heads: int,
    tensor_parallel_size: int | None = None,
    data_parallel_size: int | None = None,
) -> list[tuple[str, ...]]:
    """Share the GPUs out: as few for one copy of the model as its weights need, and as many copies as then fit.

    Args:
        gpus: the GPUs to use; none means the CPU.
        weight_bytes: size of the model's weights.
        attention_heads: heads of one layer; the number of GPUs of a copy divides them.
        tensor_parallel_size: GPUs of one copy; None chooses the smallest that leaves room for the key-value cache.
        data_parallel_size: copies; None takes as many as there are GPUs for (one on the CPU).

    Returns:
        For each copy the names of its GPUs, none for a copy on the CPU.

    Raises:
        InputError: where the model does not fit on the GPUs, or the sizes ask for more GPUs than there are.
    """
    if not gpus:
        if tensor_parallel_size not in (None, 1):
            raise InputError(f"--tensor_parallel_size {tensor_parallel_size}: there is no GPU; leave it out")
        return [()] * (data_parallel_size or 1)
    memory = min((gpu.memory for gpu in gpus if gpu.memory), default=2 * weight_bytes)
    size = tensor_parallel_size or _smallest(len(gpus), memory, weight_bytes, attention_heads)
    if attention_heads % size:
        raise InputError(f"--tensor_parallel_size {size} does not divide the model's {attention_heads} attention heads")
    copies = data_parallel_size or len(gpus) // size
    if copies < 1 or copies * size > len(gpus):
        raise InputError(
            f"{max(copies, 1)} copies of {size} GPUs each need {max(copies, 1) * size} GPUs, and {len(gpus)} are "
            "visible; lower --tensor_parallel_size or --data_parallel_size"
        )
    return [tuple(gpu.name for gpu in gpus[copy * size : (copy + 1) * size]) for copy in range(copies)]


def visible_gpus() -> list[Gpu]:
    """The NVIDIA GPUs that ``CUDA_VISIBLE_DEVICES`` leaves to this process; none where there is no driver.

    Numbers are those of ``nvidia-smi`` (``CUDA_DEVICE_ORDER=PCI_BUS_ID``, which engines are started with). A GPU that is
    split into MIG parts stands for its parts.

    Raises:
        InputError: where ``CUDA_VISIBLE_DEVICES`` names a GPU that is not there.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = None if visible is None else [name.strip() for name in visible.split(",") if name.strip()]
    if names is not None and (not names or names[0].lower() in NO_GPU):
        return []
    try:
        devices = _devices()
    except FileNotFoundError:
        return []
    except (subprocess.SubprocessError, ValueError) as error:
        logger.warning("nvidia-smi fails (%s), so this runs on the CPU", error)
        return []
    if names is None:
        return [part for _, parts in devices for part in parts]
    return [gpu for name in names for gpu in _named(name, devices)]


def _devices() -> list[tuple[tuple[str, str], list[Gpu]]]:
    """Of each GPU the number and UUID, and what can be computed on: itself, or its MIG parts.

    Raises:
        FileNotFoundError: where there is no ``nvidia-smi``.
        subprocess.SubprocessError: where it fails.
    """
    parts: dict[str, list[Gpu]] = {}
    for line in _ask("-L"):
        if gpu := GPU_LINE.match(line):
            parts[gpu["uuid"]] = []
        elif (part := MIG_LINE.match(line)) and parts:
            gib = re.search(r"(\d+)gb", part["profile"])
            parts[list(parts)[-1]].append(Gpu(name=part["uuid"], memory=int(gib[1]) * 2**30 if gib else 0))
    devices = []
    for line in _ask("--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"):
        index, uuid, mib = (word.strip() for word in line.split(","))
        whole = Gpu(name=index, memory=int(float(mib) * 2**20) if mib.replace(".", "").isdigit() else 0)
        devices.append(((index, uuid), parts.get(uuid) or [whole]))
    return devices


def _ask(*arguments: str) -> list[str]:
    done = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, check=True, timeout=60)
    return [line for line in done.stdout.splitlines() if line.strip()]


def _named(name: str, devices: Sequence[tuple[tuple[str, str], list[Gpu]]]) -> list[Gpu]:
    """What an entry of ``CUDA_VISIBLE_DEVICES`` stands for: a number, a UUID or the beginning of one."""
    for (index, uuid), parts in devices:
        if name == index or (name.startswith("GPU-") and uuid.startswith(name)):
            return parts
        if name.startswith("MIG-") and (found := [part for part in parts if part.name.startswith(name)]):
            return found[:1]
    there = ", ".join(index for (index, _), _ in devices) or "none"
    raise InputError(f"CUDA_VISIBLE_DEVICES names {name}, which is not among the GPUs of nvidia-smi ({there}); name one of them")


def _smallest(gpus: int, memory: int, weight_bytes: int, attention_heads: int) -> int:
    for size in range(1, gpus + 1):
        if attention_heads % size == 0 and weight_bytes / size <= WEIGHTS_SHARE * memory:
            return size
    raise InputError(
        f"the model's weights ({weight_bytes / 2**30:.0f} GiB) do not fit on {gpus} GPUs of {memory / 2**30:.0f} GiB; "
        "use more GPUs, or set --tensor_parallel_size to try all the same"
    )
