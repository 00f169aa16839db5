"""README's "A run of your own", as pasted: own problems and an own model, trained, gone on with, fine-tuned, evaluated, in a table.

The model has other heads than the embedded one, prompts and traces are ten times as long.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from luffy.tiny.tokenizer import build_tokenizer

pytestmark = [pytest.mark.integration, pytest.mark.journey]

ROOT = Path(__file__).resolve().parent.parent
SECTION = re.compile(r"^## A run of your own\n.*?^```\n(?P<block>.*?)^```", re.MULTILINE | re.DOTALL)
SECONDS = 900


def write_problems(path: Path) -> None:
    """40 problems with traces in the README's own keys."""
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(40):
            a, b = rng.randrange(100, 500), rng.randrange(100, 500)
            problem = f"Problem {number}. A farmer counts {a} sheep in one field and {b} in the next. " + "Then he counts again. " * 10
            solution = f"<think>\n{a} and {b} are {a + b}. " + "I check it once more. " * 10 + f"\n</think>\nThey are \\boxed{{{a + b}}}."
            file.write(json.dumps({"problem": problem + "How many are there?", "solution": solution, "answer": str(a + b)}) + "\n")


def write_model(folder: Path) -> None:
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=2048, tie_word_embeddings=True, dtype="float32",
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """The scripts of a checkout that is set up, a file of problems and a model."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("data", "exp_scripts", "eval_scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.parquet", "*_report", "__pycache__"))
    (folder / "exp_scripts" / "setup.sh").write_text("exit 0\n")  # its own test
    (folder / ".venv" / "bin").mkdir(parents=True)
    python = folder / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    write_problems(folder / "problems.jsonl")
    write_model(folder / "my_model")
    return folder


def paste(checkout: Path, commands: str, *, code: int = 0) -> str:
    """Run shell commands in the checkout, its environment active; returns what they print."""
    environment = {
        **os.environ, "PATH": f"{checkout / '.venv' / 'bin'}:{os.environ['PATH']}", "PROFILE": "cpu", "VENV": ".venv",
        "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "-euc", commands], cwd=checkout, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS
    )
    logs = "".join(log.read_text(errors="replace")[-2000:] for log in checkout.glob("outputs/*/train.log"))
    assert done.returncode == code, done.stdout[-3000:] + logs
    return done.stdout


def test_a_run_of_your_own(checkout):
    block = SECTION.search((ROOT / "README.md").read_text(encoding="utf-8"))["block"]
    for pasted, short in (("batch_size=8", "batch_size=4"), ("response_length=1024", "response_length=320"), ("tokens 1024", "tokens 64")):
        assert pasted in block
        block = block.replace(pasted, short)
    train = next(line for line in block.replace("\\\n", " ").splitlines() if "train.sh" in line)
    out = paste(checkout, block)
    run = checkout / "outputs" / "mine"
    assert not (checkout / "outputs" / "tiny").exists()  # nothing is built that is not read
    assert "held out for validation: 4 of the 40 rows" in out
    assert "no rollout earned a reward" in out
    table = [line for line in out.splitlines() if line.startswith(("| mine", "mine"))]
    assert any("mine_sft" in line for line in table) and (checkout / "report").is_dir()

    length = len(json.loads((checkout / "problems.jsonl").read_text().splitlines()[0])["solution"]) + 1
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [0, 1, 2, 3]
    for record in records[1:]:
        assert record["data"]["off_policy/truncated_share"] == 0 and record["data"]["prompt_length/clip_ratio"] == 0
        assert record["data"]["off_policy/response_length"] == length  # of every trace, with EOS: a byte is a token
    sft = [json.loads(line) for line in (checkout / "outputs" / "mine_sft" / "metrics.jsonl").read_text().splitlines()]
    assert sft[3]["data"]["train/loss"] < sft[1]["data"]["train/loss"]
    assert {record["step"] for record in sft if any(key.startswith("val-core/") for key in record["data"])} == {0, 3}

    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in run.rglob("*") if path.is_file() and path.suffix != ".log"}
    again = paste(checkout, "MODEL=my_model\n" + train)
    assert "nothing left to do" in again and "Ray" not in again
    assert before == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before}
    refused = paste(checkout, f"MODEL=my_model\n{train} actor_rollout_ref.rollout.n=4 luffy.objective.gamma=0.3", code=2)
    assert "actor_rollout_ref.rollout.n 8 -> 4" in refused and "luffy.objective.gamma 0.1 -> 0.3" in refused

    went_on = paste(checkout, f"MODEL=my_model\n{train} trainer.total_training_steps=4")
    assert "goes on after step 3" in went_on
    whole = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in whole] == [0, 1, 2, 3, 4] and whole[:4] == records
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["steps"], summary["starts"]) == (4, 2)
    assert summary["heldout_before"] == {"avg@8": 0.0, "greedy": 0.0} and summary["validation"].startswith("held out for validation: 4")


def test_the_first_real_error_ends_a_run(checkout):
    """An actor worker that fails while it starts; the trainer that waits for it fails after it."""
    if not (checkout / "data" / "mine.parquet").exists():
        paste(checkout, "python data/prepare_train.py --source problems.jsonl --output data/mine.parquet")
    out = paste(
        checkout,
        "bash exp_scripts/train.sh actor_rollout_ref.model.path=my_model data.train_files=data/mine.parquet trainer.experiment_name=failing "
        "data.max_prompt_length=1024 data.max_response_length=1024 data.train_batch_size=4 "
        "actor_rollout_ref.actor.optim.optimizer=NoSuchOptimizer",
        code=1,
    )
    line = next(line for line in out.splitlines() if line.startswith("error: "))
    assert line.startswith("error: the run failed, first in an actor worker (FSDP): AttributeError: Optimizer 'NoSuchOptimizer' not found")
    assert "NoSuchOptimizer" in (checkout / "outputs" / "failing" / "train.log").read_text()  # the details are where the line says
