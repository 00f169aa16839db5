"""What surrounds the engine and needs none: GPUs shared out by number and memory, seeds, and a pipe whose two ends send at once."""

import hashlib
import multiprocessing
import os
import re
import threading
from pathlib import Path

import pytest

from luffy.digests import sample_seed
from luffy.errors import InputError
from luffy.evaluation import generation
from luffy.evaluation.engine import EngineOptions, EngineSetup, Sampling, gpu_environment
from luffy.evaluation.generation import Completion, Engines, Inbox, Request, generate
from luffy.evaluation.gpus import Gpu, share_out, visible_gpus

GIB = 2**30


def gpus(count: int, memory: int = 80) -> list[Gpu]:
    return [Gpu(name=str(index), memory=memory * GIB) for index in range(count)]


def plan(count: int, weights: float, heads: int = 28, memory: int = 80, **sizes):
    return share_out(gpus(count, memory), weight_bytes=int(weights * GIB), attention_heads=heads, **sizes)


def test_a_model_that_fits_runs_once_on_each_gpu():
    assert plan(4, 15) == [("0",), ("1",), ("2",), ("3",)]


def test_a_model_too_large_for_one_gpu_is_spread_over_as_few_as_it_needs():
    assert plan(8, 60, heads=64) == [("0", "1"), ("2", "3"), ("4", "5"), ("6", "7")]
    assert plan(4, 140, heads=64) == [("0", "1", "2", "3")]


def test_the_size_divides_the_heads():
    assert len(plan(8, 140, heads=28)[0]) == 4  # 2.9 GPUs' worth of weights, and 3 does not divide 28
    with pytest.raises(InputError, match="does not divide the model's 28"):
        plan(8, 10, tensor_parallel_size=3)


def test_sizes_can_be_set():
    assert plan(4, 15, tensor_parallel_size=2) == [("0", "1"), ("2", "3")]
    assert plan(4, 15, data_parallel_size=2) == [("0",), ("1",)]


@pytest.mark.parametrize("sizes", [{"tensor_parallel_size": 4, "data_parallel_size": 2}, {"tensor_parallel_size": 14}])
def test_more_gpus_than_there_are(sizes):
    with pytest.raises(InputError, match="GPUs, and 4 are visible"):
        plan(4, 15, **sizes)


def test_a_model_that_fits_nowhere():
    with pytest.raises(InputError, match="400 GiB.* do not fit on 2 GPUs of 80 GiB"):
        plan(2, 400)


def test_memory_that_the_driver_does_not_say():
    assert plan(2, 15, memory=0) == [("0",), ("1",)]


def test_without_a_gpu():
    assert plan(0, 1) == [()]
    assert plan(0, 1, data_parallel_size=2) == [(), ()]
    with pytest.raises(InputError, match="there is no GPU"):
        plan(0, 1, tensor_parallel_size=2)


UUIDS = ("GPU-aaaa-1", "GPU-bbbb-2", "GPU-cccc-3")


def driver(folder, monkeypatch, listing: str, mig: str = "") -> None:
    """A program that answers as nvidia-smi does."""
    program = folder / "nvidia-smi"
    rows = "".join(f"{i}, {uuid}, {memory}\n" for i, (uuid, memory) in enumerate(zip(UUIDS, listing.split(), strict=False)))
    (folder / "query").write_text(rows)
    (folder / "list").write_text(mig)
    program.write_text(
        f'#!/bin/sh\ncase "$*" in\n  -L) cat {folder}/list ;;\n  --query-gpu=index,uuid,memory.total*) cat {folder}/query ;;\n  *) exit 6 ;;\nesac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def found(monkeypatch, visible: str | None) -> list[tuple[str, int]]:
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    return [(gpu.name, gpu.memory >> 20) for gpu in visible_gpus()]


def test_the_driver_is_asked_for_the_visible_gpus(tmp_path, monkeypatch):
    driver(tmp_path, monkeypatch, "81559 81559 40960")
    assert found(monkeypatch, None) == [("0", 81559), ("1", 81559), ("2", 40960)]
    assert found(monkeypatch, "2,0") == [("2", 40960), ("0", 81559)]
    assert found(monkeypatch, "GPU-bbbb-2, GPU-c") == [("1", 81559), ("2", 40960)]
    for nothing in ("", " ", ",", "-1", "-1,0", "NoDevFiles", "none", "void"):
        assert found(monkeypatch, nothing) == []


@pytest.mark.parametrize("name", ["3", "GPU-dddd", "MIG-1", "cuda:0", "0x1"])
def test_a_gpu_that_is_not_there_is_no_reason_to_run_on_the_cpu(tmp_path, monkeypatch, name):
    driver(tmp_path, monkeypatch, "81559 81559")
    with pytest.raises(InputError, match=rf"names {name}, which is not among the GPUs of nvidia-smi \(0, 1\)"):
        found(monkeypatch, f"0,{name}")


MIG = """GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-aaaa-1)
  MIG 3g.40gb     Device  0: (UUID: MIG-11-a)
  MIG 1g.10gb+me  Device  1: (UUID: MIG-22-b)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-bbbb-2)
"""


def test_parts_of_a_split_gpu_are_gpus_of_their_own(tmp_path, monkeypatch):
    driver(tmp_path, monkeypatch, "81559 81559", mig=MIG)
    parts = [("MIG-11-a", 40 * 1024), ("MIG-22-b", 10 * 1024)]
    assert found(monkeypatch, None) == [*parts, ("1", 81559)]
    assert found(monkeypatch, "0") == parts and found(monkeypatch, "GPU-aaaa-1") == parts
    assert found(monkeypatch, "MIG-22-b") == parts[1:] and found(monkeypatch, "MIG-22-b,MIG-1") == parts[::-1]


def test_parts_named_in_the_old_way(tmp_path, monkeypatch):
    listing = "GPU 0: NVIDIA A100 (UUID: GPU-aaaa-1)\n  MIG 2g.20gb Device 0: (UUID: MIG-GPU-aaaa-1/3/0)\n"
    driver(tmp_path, monkeypatch, "[N/A]", mig=listing)
    assert found(monkeypatch, "MIG-GPU-aaaa-1/3/0") == [("MIG-GPU-aaaa-1/3/0", 20 * 1024)]


def test_a_driver_that_fails_is_said(tmp_path, monkeypatch, caplog):
    driver(tmp_path, monkeypatch, "81559")
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    assert found(monkeypatch, None) == [] and "nvidia-smi fails" in caplog.text


def test_seeds_differ_by_run_problem_and_sample_and_by_nothing_else():
    seeds = {sample_seed(run, problem, sample) for run in range(3) for problem in ("a", "b", "a/1") for sample in range(12)}
    assert len(seeds) == 3 * 3 * 12
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert sample_seed(0, "a", 0) == int(hashlib.sha256(b"0/a/0").hexdigest()[:16], 16) // 2


def test_the_inbox_takes_in_more_than_a_pipe_holds_while_nobody_looks():
    ours, theirs = multiprocessing.Pipe()
    inbox = Inbox(theirs)
    requests = [Request(key=(0, sample), token_ids=tuple(range(2000)), seed=sample) for sample in range(500)]
    sender = threading.Thread(target=ours.send, args=(requests,), daemon=True)
    sender.start()
    sender.join(timeout=20)
    assert not sender.is_alive()
    assert inbox.take(wait=True) == requests
    assert inbox.take(wait=False) == []
    ours.close()
    assert inbox.take(wait=True) is None


def echo(connection, setup, probabilities):
    """An engine's process that answers each request with its temperature."""
    connection.send((4, {"process": str(os.getpid())}))
    while True:
        try:
            asked = connection.recv()
            connection.send([Completion(key=each.key, text=str(how.temperature), length=1, finish_reason="stop") for each, how in asked])
        except (EOFError, OSError):
            return


def answered_by(kept: Engines | None, *, room: int = 9, temperature: float = 0.0, stop: bool = False) -> str:
    """The process that answers thirty requests."""
    processes: list[str] = []
    setup = EngineSetup(folder=Path("m"), devices=(), max_model_len=room, dtype="float32", options=EngineOptions())
    requests = [Request(key=(number, 0), token_ids=(1,), seed=number) for number in range(30)]
    completions = generate(
        requests, [setup], Sampling(temperature=temperature), on_ready=lambda where: processes.append(where["process"]), kept=kept
    )
    if stop:
        next(completions)
        completions.close()
        return processes[0]
    done = list(completions)
    assert sorted(each.key for each in done) == [request.key for request in requests] and {each.text for each in done} == {str(temperature)}
    return processes[0]


def test_engines_stay_for_a_next_call_of_the_same_model(monkeypatch):
    """Real processes and pipes; vLLM itself is in tests/test_evaluation_vllm.py and tests/test_sft_command.py."""
    monkeypatch.setattr(generation, "_serve", echo)
    with Engines() as engines:
        first = answered_by(engines, temperature=1.0)
        assert answered_by(engines, temperature=0.0) == first
        roomier = answered_by(engines, room=10)
        assert roomier != first
        assert answered_by(engines, room=10, stop=True) == roomier
        assert answered_by(engines, room=10) != roomier  # its answers to what was given up would come between
    assert multiprocessing.active_children() == []
    assert answered_by(None) != answered_by(None)


def test_what_is_asked_of_cuda_exists():
    """Code that only a GPU reaches: each ``torch.cuda.NAME`` in the project is a name of PyTorch's."""
    import torch

    root = Path(__file__).resolve().parent.parent
    rooms = ("luffy", "verl", "miniature", "data", "eval_scripts", "benchmarks")
    names = {name for room in rooms for file in (root / room).rglob("*.py") for name in re.findall(r"torch\.cuda\.(\w+)", file.read_text())}
    assert {"is_available", "get_device_name"} <= names
    assert [name for name in sorted(names) if not hasattr(torch.cuda, name)] == []


def test_an_engine_on_gpus_sees_these_alone_and_starts_no_process_by_a_fork(monkeypatch):
    """A fork of a process that asked PyTorch for GPUs cannot use CUDA: fine-tuning on a GPU ended so, at its first held-out answers."""
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    assert gpu_environment(("2", "0")) == {
        "CUDA_VISIBLE_DEVICES": "2,0",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    }
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    assert gpu_environment(("0",))["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"
    assert gpu_environment(()) == {}
