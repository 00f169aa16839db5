"""Disk and GPU memory against what a run needs: the paper's figures from the number of parameters, by hand."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from test_preflight import composed

from verl.mix_src.run.preflight import machine as module
from verl.mix_src.run.preflight.machine import GIB, needs

PARAMETERS = 7_600_000_000
SMI = """#!/bin/sh
case "$1" in -L) echo "GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-0)";; *) echo "0, GPU-0, 81000";; esac
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that looks like Qwen2.5-Math-7B in bf16; the weights are a hole in a file."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"num_attention_heads": 28, "hidden_size": 3584, "dtype": "bfloat16"}))
    with open(folder / "model.safetensors", "wb") as file:
        file.truncate(2 * PARAMETERS)
    return folder


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that tells of one GPU of 81 000 MiB."""
    (tmp_path / "nvidia-smi").write_text(SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def paper(model: Path, *overrides: str):
    folder = f"trainer.default_local_dir={model.parent}/not/yet/there"
    return composed(f"actor_rollout_ref.model.path={model}", folder, *overrides, machine="gpu")


def test_checkpoints_of_the_paper_run(model: Path) -> None:
    disk, _ = needs(paper(model))
    assert disk.needed == pytest.approx(3 * 16 * PARAMETERS)  # two and the best: weights, two moments and an export, all fp32
    (every, _) = needs(paper(model, "trainer.max_actor_ckpt_to_keep=null"))
    assert every.needed == pytest.approx(10 * 16 * PARAMETERS)
    (light, _) = needs(paper(model, "actor_rollout_ref.actor.checkpoint.save_contents=[hf_model]", "trainer.save_freq=500"))
    assert light.needed == pytest.approx(4 * PARAMETERS)
    (none, _) = needs(paper(model, "trainer.save_freq=-1"))
    assert none.needed == 0


def test_memory_of_a_gpu(model: Path, gpus: None) -> None:
    _, memory = needs(paper(model))
    assert memory.needed == pytest.approx(12 * PARAMETERS / 8 + 2048 * 2**20 + 3 * GIB)
    assert memory.there == pytest.approx(0.3 * 81000 * 2**20)
    assert memory.is_met
    _, two = needs(paper(model, "trainer.n_gpus_per_node=2"))
    assert two.needed - memory.needed == pytest.approx(12 * PARAMETERS * 3 / 8) and not two.is_met
    _, offloaded = needs(paper(model, "trainer.n_gpus_per_node=2", "actor_rollout_ref.actor.fsdp_config.optimizer_offload=true"))
    assert offloaded.needed == pytest.approx(4 * PARAMETERS / 2 + 2048 * 2**20 + 3 * GIB) and offloaded.is_met


def test_what_is_not_there_is_one_line(model: Path, gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = module.shutil.disk_usage("/")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=100 * GIB))
    lines = list(module.resources(paper(model, "trainer.n_gpus_per_node=2")))
    assert [line.partition(":")[0] for line in lines] == ["disk", "GPU memory"]
    assert "about 339.7 GiB needed (2 checkpoints and the best of 113.2), 100.0 GiB there" in lines[0]
    assert "trainer.default_local_dir" in lines[0] and "gpu_memory_utilization" in lines[1]


def test_nothing_is_known_of_a_model_that_is_not_there(tmp_path: Path) -> None:
    assert needs(paper(tmp_path / "nowhere")) == []
