"""The commands that fetch data and model, against a hub that fails: one line each, and nothing half-written.

The client's own libraries talk to it over the loopback address; ``tests/test_rehearsal.py`` has the hub that works.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_content import MODEL, TRAIN, training_row, write_benchmark, write_model, write_parquet
from hub_server import CORRUPT, CUT, GATED, Hub, serving

ROOT = Path(__file__).parents[1]
GPQA = "Idavidrein/gpqa"


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> Iterator[Hub]:
    root = tmp_path_factory.mktemp("hub")
    write_parquet(root / "datasets" / TRAIN / "data/train-00000-of-00001.parquet", [training_row(i) for i in range(5)])
    write_benchmark(root / "datasets" / GPQA, "gpqa")
    write_model(root / "models" / MODEL)
    with serving(root) as running:
        yield running


def run(hub: Hub, cache: Path, script: str, *arguments: str | Path) -> subprocess.CompletedProcess:
    """Run a script of ``data/`` against the hub."""
    environment = {**os.environ, **hub.environment(cache), "TQDM_DISABLE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    command = [sys.executable, ROOT / "data" / script, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def arguments_of(script: str, output: Path) -> list[str | Path]:
    if script == "prepare_train.py":
        return ["--output", output / "train.parquet", "--no-verify"]
    if script == "prepare_eval.py":
        return ["--benchmarks", "gpqa", "--output-folder", output, "--system-prompt", "none"]
    return ["--source", MODEL, "--output", output / "model", "--system-prompt", "none"]


@pytest.mark.parametrize(
    ("script", "repository", "fault", "message"),
    [
        ("prepare_train.py", TRAIN, CUT, "could not be loaded from the hub"),
        ("prepare_train.py", TRAIN, CORRUPT, "1 downloaded files are not what the hub announced"),
        ("prepare_eval.py", GPQA, GATED, "is a gated dataset"),
        ("prepare_model.py", MODEL, CUT, "broke off"),
        ("prepare_model.py", MODEL, CORRUPT, "1 downloaded files are not what the hub announced"),
        ("prepare_model.py", MODEL, GATED, "is gated: ask for access on its page, then log in (hf auth login)"),
    ],
)
def test_a_fault_is_one_line_and_the_next_try_is_whole(hub, tmp_path, script, repository, fault, message):
    output, cache = tmp_path / "out", tmp_path / "cache"
    hub.faults[repository] = fault
    failed = run(hub, cache, script, *arguments_of(script, output))
    hub.faults.clear()
    assert failed.returncode == 2, failed.stderr[-2000:]
    (line,) = [line for line in failed.stderr.splitlines() if line.startswith("error:")]
    assert repository in line and message in line
    assert "Traceback" not in failed.stderr and "HTTP Request" not in failed.stderr
    assert not any(path.is_file() for path in output.rglob("*"))
    if fault == GATED:
        return
    again = run(hub, cache, script, *arguments_of(script, output))
    assert again.returncode == 0, again.stderr[-2000:]


def test_what_the_hub_does_not_have_is_one_line(hub, tmp_path):
    failed = run(hub, tmp_path / "cache", "prepare_train.py", "--source", "nobody/nothing", "--output", tmp_path / "t.parquet")
    assert failed.returncode == 2
    (line,) = [line for line in failed.stderr.splitlines() if line.startswith("error:")]
    assert "nobody/nothing" in line and "Dataset 'nobody/nothing' doesn't exist on the Hub" in line
    failed = run(hub, tmp_path / "cache", "prepare_model.py", "--source", "nobody/nothing", "--output", tmp_path / "m")
    assert failed.returncode == 2 and "the Hugging Face Hub has no model nobody/nothing" in failed.stderr
    assert not list(tmp_path.iterdir())
