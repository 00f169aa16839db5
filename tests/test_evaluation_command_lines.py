"""The scripts themselves, as far as they go without an engine."""

import json
import os
import runpy
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pandas as pd
import pytest

from luffy.errors import InputError
from luffy.evaluation.engine import EngineOptions
from luffy.evaluation.evaluate import Question, answer
from luffy.evaluation.prompts import TEMPLATES
from miniature.tokenizer import build_tokenizer

SCRIPTS = Path(__file__).resolve().parent.parent / "eval_scripts"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """All of a model but its weights."""
    folder = tmp_path_factory.mktemp("model")
    build_tokenizer().save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"num_attention_heads": 2, "max_position_embeddings": 4096}))
    (folder / "model.safetensors").write_bytes(b"none")
    return folder


@pytest.fixture
def problems(tmp_path) -> Path:
    rows = [
        {
            "data_source": name,
            "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"What is {number}?"}],
            "reward_model": {"style": "rule", "ground_truth": "1"},
        }
        for name in ("aime", "math")
        for number in range(3)
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "problems.parquet")
    return tmp_path / "problems.parquet"


def run(monkeypatch, capsys, script: str, *arguments: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(SCRIPTS / script), run_name="__main__")
    captured = capsys.readouterr()
    return stopped.value.code, captured.out, captured.err


@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_show_prompt(monkeypatch, capsys, model, problems, template):
    flags = ["--model_path", model, "--input_file", problems, "--template", template, "--show-prompt"]
    code, shown, _ = run(monkeypatch, capsys, "generate_vllm.py", *flags)
    assert code == 0 and "What is 0?" in shown and "Be brief." not in shown


def test_what_a_user_gets_wrong_is_one_line_and_exit_code_2(monkeypatch, capsys, model, problems, tmp_path):
    pd.DataFrame({"question": ["?"]}).to_parquet(tmp_path / "other.parquet")
    good = {"--model_path": model, "--input_file": problems, "--output_file": tmp_path / "o.jsonl"}
    for change, message in (
        ({"--model_path": "/no/such/model"}, "error: model '/no/such/model': no such folder"),
        ({"--input_file": tmp_path / "absent.parquet"}, "absent.parquet: no such file"),
        ({"--input_file": tmp_path / "other.parquet"}, "other.parquet: no column data_source, prompt, reward_model"),
        ({"--template": "qwem"}, "error: --template qwem: neither one of own"),
        ({"--temperature": "-1"}, "error: --temperature -1.0: must be 0 (greedy) or more"),
        ({"--tensor_parallel_size": "3"}, "error: --tensor_parallel_size 3"),
    ):
        flags = [str(word) for pair in {**good, **change}.items() for word in pair]
        code, _, errors = run(monkeypatch, capsys, "generate_vllm.py", *flags)
        assert code == 2 and message in errors.splitlines()[-1]
    code, _, errors = run(monkeypatch, capsys, "report.py", tmp_path / "absent.jsonl")
    assert code == 2 and errors.splitlines()[-1].endswith("absent.jsonl: no such file")


def test_prompts_without_room_are_counted_and_need_no_engine(monkeypatch, capsys, model, problems, tmp_path):
    flags = ["--model_path", model, "--input_file", problems, "--output_file", tmp_path / "o.jsonl"]
    code, _, _ = run(monkeypatch, capsys, "generate_vllm.py", *flags, "--max_model_len", 10, "--n", 2)
    assert code == 0
    found = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [(row["problem"], row["sample"]) for row in found] == [(p, s) for p in range(6) for s in range(2)]
    assert {(row["finish_reason"], row["length"], row["correct"]) for row in found} == {("prompt_too_long", 0, False)}
    cell = json.loads((tmp_path / "o.summary.json").read_text())[0]["rows"][0]["cells"]["aime"]
    assert (cell["accuracy"]["value"], cell["truncated"], cell["unanswered"]) == (0.0, 100.0, 100.0)
    code, _, errors = run(monkeypatch, capsys, "generate_vllm.py", *flags, "--max_model_len", 10, "--n", 3)
    assert code == 2 and "n 2 there, 3 here" in errors.splitlines()[-1]
    manifest = json.loads((tmp_path / "o.manifest.json").read_text())
    assert manifest["plan"]["aime"] == {"problems": 3, "samples": 6, "of": 3}
    assert manifest["environment"][0]["torch"] == metadata.version("torch")
    code, _, _ = run(monkeypatch, capsys, "generate_vllm.py", *flags, "--max_model_len", 10, "--n", 3, "--overwrite")
    assert code == 0 and len((tmp_path / "o.jsonl").read_text().splitlines()) == 18


def test_a_question_without_room(model):
    with pytest.raises(InputError, match="the model's context is 5"):
        next(answer(Question(question="What?", model_path=str(model), engine=EngineOptions(max_model_len=5))))


@pytest.mark.slow
def test_a_sweep_over_temperatures(model, problems, tmp_path):
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MODEL": str(model),
        "DATA": str(problems),
        "OUTPUT_DIR": str(tmp_path / "sweep"),
        "TEMPERATURES": "0.2 1.0",
        "N": "2",
        "NAME": "m",
    }
    command = [str(SCRIPTS / "sweep.sh"), "--max_model_len", "10"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    written = {path.name for path in (tmp_path / "sweep").iterdir()}
    assert {"m.t0.2.jsonl", "m.t1.0.jsonl", "tables.md", "pass_over_temperature.png", "pass_over_temperature.svg"} <= written


def test_several_samples_at_temperature_0_are_warned_of(monkeypatch, capsys, caplog, model, problems, tmp_path):
    flags = ["--model_path", model, "--input_file", problems, "--max_model_len", 10, "--temperature", 0]
    for number, (n, said) in enumerate(((2, True), (1, False))):
        caplog.clear()
        output = tmp_path / f"{number}.jsonl"
        assert run(monkeypatch, capsys, "generate_vllm.py", *flags, "--n", n, "--output_file", output)[0] == 0
        assert ("--temperature 0 draws nothing: the 2 samples" in caplog.text) == said
