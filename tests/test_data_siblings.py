"""The SFT set, the complement set and the evaluation files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from data_sets import ROOT, read_rows, run_script, trace, write_lines

from luffy.benchmarks.prepare import PREPARED
from luffy.data.check import check_training_file
from luffy.data.schema import arrow_schema
from miniature.tokenizer import build_tokenizer

pytestmark = pytest.mark.usefixtures("shared_grader")

BENCHMARKS = Path(os.environ.get("LUFFY_BENCHMARKS", ROOT.parent / "shared" / "benchmarks"))


def problem(number: int, *traces: str) -> dict:
    return {"problem": f"Add {number} and one.", "generations": list(traces), "answer": str(number + 1)}


def make_training_set(monkeypatch: pytest.MonkeyPatch, folder: Path, rows: list[dict]) -> Path:
    output = folder / "train.parquet"
    source = write_lines(folder / "train.jsonl", rows)
    assert run_script(monkeypatch, "prepare_train.py", "--source", source, "--teacher", "r1", "--output", output) == 0
    return output


def test_sft_has_one_conversation_a_trace(monkeypatch, tmp_path):
    train = make_training_set(monkeypatch, tmp_path, [problem(1, trace("2"), trace("2", "again")), problem(2, trace("3"))])
    output = tmp_path / "sft.parquet"
    assert run_script(monkeypatch, "prepare_sft.py", "--input", train, "--output", output) == 0
    rows = read_rows(output)
    assert [row["messages"][-1] for row in rows] == [
        {"role": "assistant", "content": t} for t in (trace("2"), trace("2", "again"), trace("3"))
    ]
    prompts = {row["extra_info"]["index"]: row["prompt"] for row in read_rows(train)}
    assert all(row["messages"][:-1] == prompts[row["extra_info"]["index"]] for row in rows)
    assert {row["source"] for row in rows} == {"r1"}
    assert check_training_file(output, build_tokenizer(), 1024, 1024) == []


def test_verls_own_sft_dataset_trains_on_the_trace_and_eos_alone(monkeypatch, tmp_path):
    from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset

    train = make_training_set(monkeypatch, tmp_path, [problem(1, trace("2"))])
    output = tmp_path / "sft.parquet"
    assert run_script(monkeypatch, "prepare_sft.py", "--input", train, "--output", output) == 0
    tokenizer = build_tokenizer()
    item = MultiTurnSFTDataset([str(output)], tokenizer, {"max_length": 1024, "pad_mode": "no_padding"})[0]
    learned = tokenizer.decode(item["input_ids"][item["loss_mask"].bool()])
    assert learned == trace("2") + "<|im_end|>\n"
    assert "Add 1 and one." in tokenizer.decode(item["input_ids"][~item["loss_mask"].bool()])


def test_the_complement_has_the_other_prompts_and_no_traces(monkeypatch, tmp_path):
    train = make_training_set(monkeypatch, tmp_path, [problem(n, trace(str(n + 1))) for n in (0, 2, 4)])
    larger = [problem(n) | {"problem": f"add {n}  and one"} for n in range(6)] + [
        problem(7) | {"answer": "\\frac{1}{"},
        problem(1),
    ]
    output = tmp_path / "rest.parquet"
    source = write_lines(tmp_path / "larger.jsonl", larger)
    assert run_script(monkeypatch, "prepare_train_sft_rl.py", "--source", source, "--exclude", train, "--output", output) == 0
    rows = read_rows(output)
    assert [row["reward_model"]["ground_truth"] for row in rows] == ["2", "4", "6"]
    assert all(row["target"] is None for row in rows)
    assert pq.read_schema(output).equals(arrow_schema("train"))
    report = json.loads((tmp_path / "rest_report" / "report.json").read_text())
    assert report["dropped_rows"] == {"unreadable_answer": 1, "excluded": 3, "duplicate_prompt": 1}
    assert report["rows_in"] == 8 and report["traces_in"] == 0


def local_copy(folder: Path, name: str, count: int) -> Path:
    """A benchmark as the hub lays it out."""
    rows = {
        "arc_c": lambda i: {
            "question": f"Q{i}?",
            "choices": {"text": ["w", "x", "y"], "label": ["1", "2", "3"]},
            "answerKey": "3",
        },
        "gpqa": lambda i: {
            "Question": f"Q{i}?",
            "Correct Answer": "right",
            **{f"Incorrect Answer {j}": f"wrong {j}" for j in (1, 2, 3)},
        },
        "mmlu_pro": lambda i: {
            "question": f"Q{i % 12000}?",
            "options": [str(j) for j in range(10)],
            "answer": "J",
            "answer_index": 9,
        },
        "olympiad_bench": lambda i: {"question": f"Q{i}?", "answer": ["1", "2"]},
        "minerva": lambda i: {"question": f"Q{i}?", "answer": str(i)},
    }.get(name, lambda i: {"problem": f"P{i}?", "answer": str(i)})
    return write_lines(folder / f"{name}.jsonl", [rows(i) for i in range(count)])


def test_the_nine_benchmarks_from_local_copies(monkeypatch, tmp_path):
    copies = [f"{name}={local_copy(tmp_path, name, source.problems)}" for name, source in PREPARED.items()]
    folder = tmp_path / "out"
    assert run_script(monkeypatch, "prepare_eval.py", "--local", *copies, "--output-folder", folder) == 0
    files = {path.name: read_rows(path) for path in folder.iterdir()}
    assert {name: len(rows) for name, rows in files.items()} == {
        "valid.parquet": 30 * 8 + 30 * 8 + 83 * 4,
        "valid.all.parquet": 6023,
        "valid.arc_c.parquet": 1172,
        "valid.gpqa.parquet": 198,
        "valid.mmlu_pro.parquet": 12032,
    }  # fmt: skip
    assert all(pq.read_schema(path).equals(arrow_schema("eval")) for path in folder.iterdir())
    counts = {}
    for row in files["valid.all.parquet"]:
        counts[row["data_source"]] = counts.get(row["data_source"], 0) + 1
    assert counts == {"aime": 960, "aime25": 960, "amc": 2656, "math": 500, "minerva": 272, "olympiad_bench": 675}
    rows = [(row["data_source"], row["prompt"][-1]["content"]) for row in files["valid.parquet"]]
    assert {name: (len({p for n, p in rows if n == name}), sum(n == name for n, _ in rows)) for name, _ in rows} == {
        "aime": (30, 240), "aime25": (30, 240), "amc": (83, 332),
    }  # fmt: skip
    assert files["valid.all.parquet"][-1]["reward_model"] == {"style": "rule", "ground_truth": "1, 2"}
    assert files["valid.arc_c.parquet"][0]["reward_model"]["ground_truth"] == "C"
    assert "\nC) y\n" in files["valid.arc_c.parquet"][0]["prompt"][-1]["content"]
    assert "\nJ) 9\n" in files["valid.mmlu_pro.parquet"][0]["prompt"][-1]["content"]
    letters = {row["reward_model"]["ground_truth"] for row in files["valid.gpqa.parquet"]}
    assert letters == set("ABCD")
    for row in files["valid.gpqa.parquet"]:
        assert f"\n{row['reward_model']['ground_truth']}) right\n" in row["prompt"][-1]["content"] + "\n"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("math", {"problem": None}, "row 7 is no row of benchmark 'math' (ValueError('no text of a problem'))"),
        ("math", {"answer": None}, "no gold answer but 'None'"),
        ("math", {"answer": "proof"}, "no gold answer but 'proof'"),
        ("gpqa", {"Incorrect Answer 2": None}, "a question or option that is no text"),
        ("arc_c", {"answerKey": "E"}, "'E' is not in list"),
        ("mmlu_pro", {"options": ["1", "2"]}, "row 7 is no row of benchmark 'mmlu_pro'"),
    ],
)
def test_a_row_without_question_or_answer_is_no_row_of_a_benchmark(monkeypatch, tmp_path, capsys, name, change, message):
    path = local_copy(tmp_path, name, PREPARED[name].problems)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    write_lines(path, [row | (change if number == 7 else {}) for number, row in enumerate(rows)])
    folder = tmp_path / "out"
    command = ["prepare_eval.py", "--benchmarks", name, "--local", f"{name}={path}", "--output-folder", folder]
    assert run_script(monkeypatch, *command) == 2
    assert message in capsys.readouterr().err
    assert not folder.exists()


def test_the_validation_file_alone(monkeypatch, tmp_path):
    names = ("aime", "aime25", "amc")
    copies = [f"{name}={local_copy(tmp_path, name, PREPARED[name].problems)}" for name in names]
    arguments = ["--validation-only", "--local", *copies, "--output-folder", tmp_path / "out"]
    assert run_script(monkeypatch, "prepare_eval.py", *arguments) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["valid.parquet"]


def test_a_benchmark_that_fails_keeps_its_own_file_back_alone(monkeypatch, tmp_path, capsys):
    short, whole = local_copy(tmp_path, "gpqa", 3), local_copy(tmp_path, "minerva", 272)
    arguments = ["--benchmarks", "gpqa", "minerva", "--local", f"gpqa={short}", f"minerva={whole}"]
    assert run_script(monkeypatch, "prepare_eval.py", *arguments, "--output-folder", tmp_path / "out") == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["valid.all.parquet"]
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert "has 3 problems of benchmark 'gpqa', which has 198" in line and "(written: valid.all.parquet)" in line


@pytest.mark.parametrize(("system", "expected"), [("Think.", ["Think."]), ("none", [])])
def test_prompts_have_the_training_sets_system_message(monkeypatch, tmp_path, system, expected):
    source = write_lines(tmp_path / "train.jsonl", [problem(1, trace("2"))])
    train = ["--source", source, "--system-prompt", system, "--output", tmp_path / "openr1.parquet"]
    assert run_script(monkeypatch, "prepare_train.py", *train) == 0
    copy = local_copy(tmp_path, "minerva", 272)
    arguments = ["--benchmarks", "minerva", "--local", f"minerva={copy}", "--output-folder", tmp_path]
    assert run_script(monkeypatch, "prepare_eval.py", *arguments) == 0
    prompt = read_rows(tmp_path / "valid.all.parquet")[0]["prompt"]
    assert [message["content"] for message in prompt if message["role"] == "system"] == expected


def test_options_of_gpqa_keep_their_order_for_a_seed(monkeypatch, tmp_path):
    copy = local_copy(tmp_path, "gpqa", 198)
    contents = []
    for seed in (0, 0, 1):
        arguments = ["--benchmarks", "gpqa", "--local", f"gpqa={copy}", "--output-folder", tmp_path, "--seed", seed]
        assert run_script(monkeypatch, "prepare_eval.py", *arguments) == 0
        contents.append((tmp_path / "valid.gpqa.parquet").read_bytes())
    assert contents[0] == contents[1] != contents[2]


@pytest.mark.parametrize("count", [29, 31])
def test_another_number_of_problems_is_refused(monkeypatch, tmp_path, capsys, count):
    copy = local_copy(tmp_path, "aime", count)
    assert (
        run_script(
            monkeypatch,
            "prepare_eval.py",
            "--benchmarks",
            "aime",
            "--local",
            f"aime={copy}",
            "--output-folder",
            tmp_path,
        )
        == 2
    )
    assert f"has {count} problems of benchmark 'aime', which has 30" in capsys.readouterr().err
    assert not (tmp_path / "valid.all.parquet").exists()


@pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="the published evaluation files are not here (LUFFY_BENCHMARKS)")
def test_the_published_files_are_rebuilt_and_found_as_leaks(monkeypatch, tmp_path, capsys):
    names = {
        "valid.all.parquet": ("aime", "aime25", "amc", "math", "minerva", "olympiad_bench"),
        "valid.arc_c.parquet": ("arc_c",),
        "valid.gpqa.parquet": ("gpqa",),
    }
    local = [f"{name}={BENCHMARKS / file}" for file, members in names.items() for name in members]
    chosen = [name for members in names.values() for name in members]
    arguments = ["--benchmarks", *chosen, "--local", *local, "--output-folder", tmp_path]
    assert run_script(monkeypatch, "prepare_eval.py", *arguments) == 0
    for file in names:
        published, rebuilt = read_rows(BENCHMARKS / file), read_rows(tmp_path / file)

        def content(row: dict) -> tuple:
            return row["data_source"], row["prompt"][-1]["content"], row["reward_model"]["ground_truth"]

        assert sorted(map(content, rebuilt)) == sorted(map(content, published))
        assert check_training_file(tmp_path / file) == []
    leaks = [
        {"problem": row["prompt"][-1]["content"], "generations": [], "answer": "1"} for row in read_rows(BENCHMARKS / "valid.gpqa.parquet")
    ]
    source = write_lines(tmp_path / "leaks.jsonl", leaks)
    arguments = [
        "--source",
        source,
        "--exclude",
        tmp_path / "valid.arc_c.parquet",
        "--output",
        tmp_path / "rest.parquet",
        "--no-verify",
    ]
    assert run_script(monkeypatch, "prepare_train_sft_rl.py", *arguments) == 2
    assert "198 prompts are in the evaluation sets (exact: gpqa 198)" in capsys.readouterr().err
