"""The whole SFT command on the CPU: real ranks, real vLLM, on an untrained model and a few rows of the embedded task."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from miniature.task import draw_problems, question, totals, write_response
from miniature.tokenizer import build_tokenizer

pytestmark = [pytest.mark.integration, pytest.mark.slow]

KEYS = {
    "experiment", "seed", "steps", "heldout_avg8_before", "heldout_avg8_after", "heldout_greedy_after", "entropy_last10", "seconds",
    "peak_memory_bytes", "overhead_share", "checkpoint", "hf_model",
}  # fmt: skip


def write_inputs(folder: Path) -> None:
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(folder / "model")
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=128, tie_word_embeddings=True, dtype="float32",
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder / "model")
    rng = random.Random(0)
    rows = [
        {
            "data_source": "luffy_tiny",
            "prompt": [{"role": "user", "content": question(digits)}],
            "target": [{"role": "assistant", "content": write_response(digits, rng)}],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": totals(digits)},
            "extra_info": {"index": index, "split": "train"},
        }
        for index, digits in enumerate(draw_problems(12, rng))
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "train.parquet")
    held_out = [{name: value for name, value in row.items() if name != "target"} for row in rows[8:]]
    pq.write_table(pa.Table.from_pylist(held_out), folder / "heldout.parquet")


def test_a_run_leaves_what_every_run_leaves(tmp_path):
    write_inputs(tmp_path)
    run = tmp_path / "run"
    overrides = [
        "profile=cpu", f"model.path={tmp_path}/model", f"data.train_files={tmp_path}/train.parquet",
        f"data.val_files={tmp_path}/heldout.parquet", f"trainer.default_local_dir={run}", "trainer.total_training_steps=3",
        "trainer.save_freq=-1", "data.train_batch_size=4", "data.micro_batch_size_per_gpu=2", "luffy.run.seed=5",
    ]  # fmt: skip
    command = [sys.executable, "-m", "verl.mix_src.main_sft", *overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:] + (run / "train.log").read_text()[-3000:]
    assert done.stdout.splitlines()[-1] == f"summary: {run / 'summary.json'}"
    summary = json.loads((run / "summary.json").read_text())
    assert KEYS <= summary.keys()
    assert (summary["experiment"], summary["seed"], summary["steps"], summary["overhead_share"]) == ("sft", 5, 3, None)
    assert summary["heldout_avg8_before"] == summary["heldout_greedy_after"] == 0.0  # three steps teach nothing
    assert 3.0 < summary["entropy_last10"] < 5.6  # below log 262, the vocabulary
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [0, 1, 2, 3]
    losses = [record["data"]["train/loss"] for record in records[1:]]
    assert losses[2] < losses[0] < 6.0
    for record in (records[0], records[3]):
        assert record["data"]["val-core/luffy_tiny/acc/mean@8"] == 0.0
        assert record["data"]["val-core/luffy_tiny_greedy/acc/mean@1"] == 0.0
    trained, start = (AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (summary["hf_model"], tmp_path / "model"))
    assert any(not torch.equal(weight, start[name]) for name, weight in trained.items())
    assert list((run / "plots").iterdir())
