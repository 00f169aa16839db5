"""The checker names each planted fault by its row, and says nothing about a good file."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_sets import run_script, save_tokenizer, trace, write_lines

from luffy.data.check import Finding, check_layout, check_training_file
from luffy.data.faults import CODES, ERROR, WARNING
from luffy.data.judge import verifier
from luffy.data.schema import arrow_schema
from luffy.errors import InputError
from miniature.tokenizer import build_tokenizer

pytestmark = pytest.mark.usefixtures("shared_grader")

GOOD_ROWS = 12


def good(number: int) -> dict[str, Any]:
    return {
        "data_source": "math",
        "prompt": [{"role": "system", "content": "Think."}, {"role": "user", "content": f"What is {number} + 1?"}],
        "target": [{"role": "assistant", "content": trace(str(number + 1))}],
        "target_source": ["r1"],
        "target_probs": None,
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": str(number + 1)},
        "extra_info": {"index": number, "split": "train"},
    }


def set_prompt(row: dict, index: int, **message: Any) -> None:
    row["prompt"][index] = row["prompt"][index] | message


def set_trace(row: dict, text: str | None) -> None:
    row["target"][0]["content"] = text


def replace(row: dict, **values: Any) -> None:
    row.update(values)


# code -> how a good row gets the fault
FAULTS = {
    "prompt_missing": lambda row: replace(row, prompt=None),
    "prompt_message_null": lambda row: set_prompt(row, 1, content=None),
    "prompt_role": lambda row: set_prompt(row, 0, role="developer"),
    "prompt_system_late": lambda row: replace(row, prompt=[row["prompt"][1], row["prompt"][0], row["prompt"][1]]),
    "prompt_not_user_last": lambda row: replace(row, prompt=[*row["prompt"], {"role": "assistant", "content": "Let me see."}]),
    "prompt_empty": lambda row: set_prompt(row, 1, content=" \n"),
    "prompt_too_long": lambda row: set_prompt(row, 1, content="word " * 60 + str(row["extra_info"]["index"])),
    "prompt_duplicate": lambda row: set_prompt(row, 1, content="What is  1 + 1 ?"),
    "gold_missing": lambda row: replace(row, reward_model={"style": "rule", "ground_truth": ""}),
    "gold_sentinel": lambda row: replace(row, reward_model={"style": "rule", "ground_truth": "notfound"}),
    "gold_encoded": lambda row: replace(row, reward_model={"style": "rule", "ground_truth": '["2"]'}),
    "text_encoded": lambda row: set_prompt(row, 1, content=f'[{{"role": "user", "content": "{row["prompt"][1]["content"]}"}}]'),
    "gold_unreadable": lambda row: replace(row, reward_model={"style": "rule", "ground_truth": "\\frac{1}{"}),
    "reward_style": lambda row: replace(row, reward_model=row["reward_model"] | {"style": "model"}),
    "policy_success_range": lambda row: row.update(policy_success=1.5),
    "data_source_missing": lambda row: replace(row, data_source=None),
    "ability_missing": lambda row: replace(row, ability=""),
    "index_missing": lambda row: replace(row, extra_info=None),
    "index_duplicate": lambda row: replace(row, extra_info={"index": 1, "split": "train"}),
    "trace_missing": lambda row: replace(row, target=[], target_source=[]),
    "trace_null": lambda row: set_trace(row, None),
    "trace_role": lambda row: row["target"][0].update(role="user"),
    "trace_empty": lambda row: set_trace(row, " "),
    "trace_too_long": lambda row: set_trace(row, trace(row["reward_model"]["ground_truth"], "x" * 200)),
    "trace_wrong": lambda row: set_trace(row, trace("0")),
    "trace_duplicate": lambda row: replace(row, target=row["target"] * 2, target_source=["r1", "qwq"]),
    "think_tags_missing": lambda row: set_trace(row, f"\\boxed{{{row['reward_model']['ground_truth']}}}"),
    "think_tags_doubled": lambda row: set_trace(row, "<think>" + trace(row["reward_model"]["ground_truth"])),
    "eos_in_trace": lambda row: set_trace(row, trace(row["reward_model"]["ground_truth"]) + "<|im_end|>"),
    "special_token": lambda row: set_prompt(row, 1, content=row["prompt"][1]["content"] + "<|im_start|>"),
    "broken_text": lambda row: set_prompt(row, 1, content=row["prompt"][1]["content"] + "\ufffd"),
    "target_source_count": lambda row: replace(row, target_source=["r1", "qwq"]),
    "target_probs_count": lambda row: replace(row, target_probs=[None, None]),
    "probs_length": lambda row: replace(row, target_probs=[[0.5, 0.5]]),
    "probs_range": lambda row: replace(row, target_probs=[[-0.7] * (len(row["target"][0]["content"]) + 1)]),
}
WARNINGS = {
    "reward_style",
    "ability_missing",
    "index_missing",
    "index_duplicate",
    "trace_missing",
    "trace_duplicate",
    "broken_text",
}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows, schema=arrow_schema("train", known=["policy_success"])), path)
    return path


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, str]]:
    """A file of good rows and, after each of them, one with a fault; and which row has which."""
    rows, faults = [], {}
    for number, (code, plant) in enumerate(FAULTS.items()):
        rows.append(good(2 * number + 1))
        rows.append(copy.deepcopy(good(2 * number + 2)))
        plant(rows[-1])
        faults[len(rows) - 1] = code
    return write(tmp_path_factory.mktemp("planted") / "train.parquet", rows), faults


@pytest.fixture(scope="module")
def findings(planted: tuple[Path, dict[int, str]]) -> list[Finding]:
    with verifier(workers=1) as verify:
        return check_training_file(planted[0], build_tokenizer(), 200, 100, verify=verify)


@pytest.mark.parametrize("code", FAULTS)
def test_each_planted_fault_is_found_in_its_row(planted, findings, code):
    (row,) = (row for row, planted_code in planted[1].items() if planted_code == code)
    found = [finding for finding in findings if finding.code == code]
    assert [finding.row for finding in found] == [row]
    assert found[0].severity == (WARNING if code in WARNINGS else ERROR)
    assert str(row) in str(found[0]) and found[0].message


def test_good_rows_have_no_findings(planted, findings):
    assert set(CODES) - set(FAULTS) == {
        "column_missing", "column_type", "column_renamed", "column_unread", "no_rows", "chat_template", "row_unreadable",
    }  # fmt: skip
    assert {finding.row for finding in findings} == set(planted[1])


def test_a_file_without_any_think_tag_is_not_blamed(tmp_path):
    rows = [good(number) for number in range(4)]
    for row in rows:
        set_trace(row, row["reward_model"]["ground_truth"])
    assert check_training_file(write(tmp_path / "t.parquet", rows)) == []


def test_a_limit_checks_the_first_rows_only(tmp_path):
    rows = [good(number) for number in range(300)]
    for number in (3, 150, 299):
        set_trace(rows[number], None)
    path = write(tmp_path / "t.parquet", rows)
    assert [finding.row for finding in check_training_file(path, limit=151)] == [3, 150]
    assert [finding.row for finding in check_training_file(path)] == [3, 150, 299]


def test_the_command_prints_findings_and_fails(monkeypatch, planted, tmp_path, capsys):
    tokenizer = save_tokenizer(tmp_path)
    assert (
        run_script(
            monkeypatch,
            "check.py",
            planted[0],
            "--tokenizer",
            tokenizer,
            "--max-response-length",
            100,
            "--max-prompt-length",
            200,
        )
        == 1
    )
    printed = capsys.readouterr().out
    assert "error: row 1: prompt_missing: the prompt is null or an empty list; drop the row" in printed
    assert printed.splitlines()[-1].endswith(f"{len(FAULTS) - len(WARNINGS)} errors, {len(WARNINGS)} warnings")
    assert run_script(monkeypatch, "check.py", write(tmp_path / "good.parquet", [good(1)]), "--tokenizer", tokenizer) == 0


LAYOUT_FAULTS = {
    "column 'prompt' is missing": lambda table: table.drop_columns("prompt"),
    "column 'target' is string instead of list": lambda table: table.set_column(2, "target", pa.array(["text"])),
    "column 'reward_model' is a struct without field 'style'": lambda table: table.set_column(
        6, "reward_model", pa.array([{"ground_truth": "1"}])
    ),
    "column 'prompt' is a list of a struct whose field 'content' is int64": lambda table: table.set_column(
        1, "prompt", pa.array([[{"role": "user", "content": 3}]])
    ),
    "column 'target_probs' is a list of int64 instead of list": lambda table: table.set_column(4, "target_probs", pa.array([[1]])),
    "column 'target_ds_qwen_7b_probs' is not read under that name; call it 'target_probs'": lambda table: table.rename_columns(
        [n.replace("target_probs", "target_ds_qwen_7b_probs") for n in table.column_names]
    ),
    "the file has no rows": lambda table: table.slice(0, 0),
}


@pytest.mark.parametrize("message", LAYOUT_FAULTS)
def test_the_layout_is_checked_without_reading_rows(tmp_path, message):
    table = pa.Table.from_pylist([good(1)], schema=arrow_schema("train"))
    path = tmp_path / "t.parquet"
    pq.write_table(LAYOUT_FAULTS[message](table), path)
    with pytest.raises(InputError, match="^" + str(path) + ".*" + message.split(" is ")[0]) as caught:
        check_layout(path)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    kinds = [finding.code for finding in check_training_file(path, kind="train")]
    assert kinds and set(kinds) <= {"column_missing", "column_type", "column_renamed", "no_rows"}


def test_a_column_that_is_nearly_known_is_named(tmp_path, caplog):
    table = pa.Table.from_pylist([good(1)], schema=arrow_schema("train"))
    names = [name.replace("target_probs", "target_prob") for name in table.column_names]
    pq.write_table(table.rename_columns(names), tmp_path / "t.parquet")
    check_layout(tmp_path / "t.parquet")
    assert "column 'target_prob' is not read; if it is 'target_probs', rename it" in caplog.text
    assert [(found.row, found.code) for found in check_training_file(tmp_path / "t.parquet")] == [(None, "column_unread")]


def test_a_row_that_cannot_be_read_is_a_finding(tmp_path):
    table = pa.Table.from_pylist([good(n) for n in range(1, 4)], schema=arrow_schema("train"))
    broken = pa.array([b"math", b"\xed\xa0\xbd", b"math"], pa.binary()).view(pa.string())
    pq.write_table(table.set_column(table.schema.get_field_index("ability"), "ability", broken), tmp_path / "t.parquet")
    (found,) = check_training_file(tmp_path / "t.parquet")
    assert (found.row, found.code) == (1, "row_unreadable") and "row 1 cannot be read" in found.message


def test_layouts_of_other_writers_are_accepted(tmp_path):
    row = good(1) | {"target_source": None, "further": 1}
    table = pa.Table.from_pylist([row])  # pandas and datasets: other field order, int64, null columns
    wide = table.set_column(table.schema.get_field_index("data_source"), "data_source", table["data_source"].cast(pa.large_string()))
    pq.write_table(wide, tmp_path / "t.parquet")
    check_layout(tmp_path / "t.parquet")
    assert check_training_file(tmp_path / "t.parquet") == []
    pq.write_table(wide.drop_columns(["target", "target_source", "target_probs"]), tmp_path / "valid.parquet")
    check_layout(tmp_path / "valid.parquet", kind="eval")
    assert check_training_file(tmp_path / "valid.parquet") == []


@pytest.mark.parametrize(("attribute", "message"), [("eos_token", "no EOS token"), ("chat_template", "no chat template")])
def test_a_tokenizer_that_cannot_end_or_render_is_refused(tmp_path, attribute, message):
    tokenizer = build_tokenizer()
    setattr(tokenizer, attribute, None)
    with pytest.raises(InputError, match=message):
        check_training_file(write(tmp_path / "t.parquet", [good(1)]), tokenizer)


JSON_ROWS = {
    "good": ({}, None),
    "two of one": ({"generations": [trace("2"), trace("2")]}, "trace_duplicate"),
    "no answer": ({"answer": "\\boxed{\\text{proof}}"}, "gold_missing"),
    "unreadable": ({"answer": "\\frac{1}{"}, "gold_unreadable"),
    "wrong": ({"generations": [trace("3")]}, "trace_wrong"),
    "a cut list": ({"generations": '["<think>'}, "row_unreadable"),
    "half a character": ({"problem": "\ud83d?"}, "row_unreadable"),
    "no text": ({"problem": None}, "prompt_missing"),
}


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_json_is_checked_as_it_will_be_read(monkeypatch, tmp_path, capsys, suffix):
    good_row = {"generations": [trace("2")], "answer": "2"}
    rows = [{"problem": f"Number {n}: 1+1?"} | good_row | change for n, (change, _) in enumerate(JSON_ROWS.values())]
    lines = [json.dumps(row) for row in rows]
    path = tmp_path / f"mine{suffix}"
    path.write_text("[" + ",\n".join(lines) + "]" if suffix == ".json" else "\n".join([*lines, "{cut"]))
    assert run_script(monkeypatch, "check.py", path, "--num-workers", 1) == 1
    *found, total = capsys.readouterr().out.splitlines()
    expected = [f"row {n}: {code}" for n, (_, code) in enumerate(JSON_ROWS.values()) if code]
    expected += [f"row {len(rows)}: row_unreadable"] if suffix == ".jsonl" else []
    assert [": ".join(line.split(": ")[1:3]) for line in found] == expected
    assert "stands for no answer" in found[1]
    assert total.endswith(f": {len(expected) - 1} errors, 1 warnings")


def test_json_without_traces_is_an_evaluation_set_and_messages_may_be_sft(monkeypatch, tmp_path, capsys):
    path = write_lines(tmp_path / "x.jsonl", [{"problem": f"1+{n}?", "answer": n + 1} for n in range(300)])
    assert check_training_file(path) == [] and check_training_file(path, limit=200, kind="eval") == []
    messages = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": trace("2")}]
    assert check_training_file(write_lines(tmp_path / "m.jsonl", [{"messages": messages}]), kind="sft") == []
    assert run_script(monkeypatch, "check.py", write_lines(tmp_path / "n.jsonl", [{"a": 1}])) == 2
    assert "no column is known to hold the problem" in capsys.readouterr().err
    assert run_script(monkeypatch, "check.py", tmp_path) == 2
    assert "is a folder; give one of its files" in capsys.readouterr().err
