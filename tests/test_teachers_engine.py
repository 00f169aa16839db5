"""Teachers on the real engine: a model in this process whose probabilities are computed again, and the whole loop with a real server."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from data_sets import ROOT, write_lines
from openai_server import proxying
from transformers import AutoModelForCausalLM, AutoTokenizer

from luffy.data.check import check_training_file
from luffy.digests import uniform
from miniature.dataset import DATA_SOURCE
from miniature.task import draw_problems, question, totals

pytest.importorskip("vllm", reason="vLLM is not installed")
pytestmark = [pytest.mark.integration, pytest.mark.alone]

ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1"}
STEPS, TEACHER_STEPS = 14, 20  # of 16 prompts: half of the problems are then solved, and most of them


def command(*words: object) -> str:
    done = subprocess.run(list(map(str, words)), cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def collect(*flags: object) -> str:
    common = ("--system-prompt", "none", "--no-think-tags", "--max-tokens", 64, "--num-workers", 1)
    return command(sys.executable, "data/collect_traces.py", *common, *flags)


def problems(folder: Path, count: int) -> Path:
    """Problems of the embedded task that no file of it holds."""
    rows = [
        {"problem": question(digits), "answer": totals(digits), "data_source": DATA_SOURCE}
        for digits in draw_problems(count, random.Random("teachers"))
    ]
    return write_lines(folder / "problems.jsonl", rows)


def test_a_model_in_this_process_gives_the_probabilities_that_it_drew_with(tiny_example, tmp_path):
    """At temperature 0.7 the probabilities are those of the softmax of the logits / 0.7, which transformers computes here."""
    output = tmp_path / "traces.parquet"
    flags = ("--problems", problems(tmp_path, 24), "--teacher", tiny_example.model, "--policy", tiny_example.model, "--policy-samples", 2,
             "--samples", 2, "--keep", 2, "--keep-wrong", "--temperature", 0.7, "--output", output)  # fmt: skip
    said = collect(*flags)
    assert "token probabilities of 48 answers are known" in said
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_example.model).eval(), AutoTokenizer.from_pretrained(tiny_example.model)
    rows = pq.read_table(output).to_pylist()
    assert len(rows) == 24 and {row["policy_success"] for row in rows} == {0.0}
    for row in rows[:6]:
        prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=False)
        for message, probabilities in zip(row["target"], row["target_probs"], strict=True):
            ids = [*tokenizer.encode(message["content"], add_special_tokens=False), tokenizer.eos_token_id]
            with torch.no_grad():
                logits = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
            expected = torch.softmax(logits.float() / 0.7, dim=-1)[range(len(ids)), ids]
            torch.testing.assert_close(torch.tensor(probabilities), expected, rtol=2e-3, atol=1e-5)
    assert [str(found) for found in check_training_file(output, tokenizer) if "probs" in found.code] == []
    before = output.read_bytes()
    assert "asking 1 teachers" in collect(*flags)  # nothing is left to ask: no engine starts
    assert output.read_bytes() == before


@contextmanager
def served(model: Path, log: Path) -> Iterator[str]:
    """``vllm serve`` on loopback; its base URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = ["--host", "127.0.0.1", "--port", port, "--dtype", "float32", "--max-model-len", 256, "--enforce-eager",
             "--no-enable-chunked-prefill", "--max-num-batched-tokens", 4096, "--served-model-name", "expert"]  # fmt: skip
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "luffy.vllm_cpu", "serve", str(model), *map(str, flags)], cwd=ROOT, env=ENVIRONMENT, stdout=file, stderr=file,
            start_new_session=True,
        )  # fmt: skip
    try:
        url, deadline = f"http://127.0.0.1:{port}/v1", time.monotonic() + 180
        while not _answers(f"{url}/models"):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.2)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


def train(folder: Path, steps: int, *overrides: str) -> list[float]:
    """Train the base for ``steps``; the rollouts' reward at each."""
    command(
        sys.executable, "-m", "verl.mix_src.main_mix_ppo", "profile=cpu", "experiment=luffy", f"trainer.total_training_steps={steps}",
        f"trainer.default_local_dir={folder}", "trainer.val_before_train=false", "trainer.test_freq=-1", *overrides,
    )  # fmt: skip
    records = [json.loads(line)["data"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [record["on_policy/reward"] for record in records if "on_policy/reward" in record]


@pytest.mark.soak  # two trainings and a server take minutes: `make soak` runs it, `make test` does not
def test_a_trained_model_teaches_its_own_base(tiny_example, tmp_path):
    """train, serve, collect through a proxy that fails, train the base again: it learns from these traces as from the first ones."""
    usual = train(tmp_path / "teacher", TEACHER_STEPS)[:STEPS]
    model = tmp_path / "teacher" / f"global_step_{TEACHER_STEPS}" / "actor" / "huggingface"
    source, output = problems(tmp_path, 256), tmp_path / "traces.parquet"

    def fault(name: str, tries: int) -> str | None:
        draw = uniform("proxy", name, tries)
        return (
            None
            if tries > 3
            else "429"
            if draw < 0.04
            else "500"
            if draw < 0.08
            else "cut"
            if draw < 0.12
            else "slow"
            if draw < 0.13
            else None
        )

    with served(model, tmp_path / "serve.log") as url, proxying(url, fault) as proxy:
        command_line = ("--problems", source, "--samples", 4, "--temperature", 1, "--tokenizer", tiny_example.model, "--output", output,
                        "--backoff", 0.2, "--concurrency", 32)  # fmt: skip
        said = collect(*command_line, "--teacher", proxy.url)
    assert set(proxy.answered.values()) == {1}  # nothing was answered twice
    assert len(proxy.answered) == 4 * 256 and Counter(proxy.tries.values())[1] < 1000
    rows = pq.read_table(output).to_pylist()
    assert len(rows) > 200, said
    for row in rows:
        assert row["target"][0]["content"].endswith(">" + row["reward_model"]["ground_truth"])
        assert len(row["target_probs"][0]) == len(row["target"][0]["content"]) + 1
    assert [str(found) for found in check_training_file(output, AutoTokenizer.from_pretrained(tiny_example.model))] == []
    learned = train(tmp_path / "student", STEPS, f"data.train_files={output}", f"data.val_files={tiny_example.heldout}")
    assert max(learned[:2]) < 0.05 and sum(learned[-3:]) / 3 > max(0.3, sum(usual[-3:]) / 3 - 0.25), (usual, learned)
