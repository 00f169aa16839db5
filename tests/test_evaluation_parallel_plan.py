"""How GPUs are shared out, as a pure function of their number and memory."""

import os

import pytest

from luffy.errors import InputError
from luffy.evaluation.parallel_plan import Gpu, make_plan, visible_gpus

GIB = 2**30


def gpus(count: int, memory: int = 80) -> list[Gpu]:
    return [Gpu(name=str(index), memory=memory * GIB) for index in range(count)]


def plan(count: int, weights: float, heads: int = 28, memory: int = 80, **sizes):
    made = make_plan(gpus(count, memory), weight_bytes=int(weights * GIB), attention_heads=heads, **sizes)
    return made.tensor_parallel_size, made.groups


def test_a_model_that_fits_runs_once_on_each_gpu():
    assert plan(4, 15) == (1, (("0",), ("1",), ("2",), ("3",)))


def test_a_model_too_large_for_one_gpu_is_spread_over_as_few_as_it_needs():
    assert plan(8, 60, heads=64) == (2, (("0", "1"), ("2", "3"), ("4", "5"), ("6", "7")))
    assert plan(4, 140, heads=64) == (4, (("0", "1", "2", "3"),))


def test_the_size_divides_the_heads():
    assert plan(8, 140, heads=28)[0] == 4  # 2.9 GPUs' worth of weights, and 3 does not divide 28
    with pytest.raises(InputError, match="does not divide the model's 28"):
        plan(8, 10, tensor_parallel_size=3)


def test_sizes_can_be_set():
    assert plan(4, 15, tensor_parallel_size=2) == (2, (("0", "1"), ("2", "3")))
    assert plan(4, 15, data_parallel_size=2) == (1, (("0",), ("1",)))


@pytest.mark.parametrize("sizes", [{"tensor_parallel_size": 4, "data_parallel_size": 2}, {"tensor_parallel_size": 14}])
def test_more_gpus_than_there_are(sizes):
    with pytest.raises(InputError, match="GPUs, and 4 are visible"):
        plan(4, 15, **sizes)


def test_a_model_that_fits_nowhere():
    with pytest.raises(InputError, match="400 GiB.* do not fit on 2 GPUs of 80 GiB"):
        plan(2, 400)


def test_memory_that_the_driver_does_not_say():
    assert plan(2, 15, memory=0) == (1, (("0",), ("1",)))


def test_without_a_gpu():
    assert plan(0, 1) == (1, ((),))
    assert plan(0, 1, data_parallel_size=2) == (1, ((), ()))
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
