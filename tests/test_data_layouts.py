"""Each public layout is read into the same rows, without naming a column."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from luffy.data.layout import find_layout
from luffy.data.schema import arrow_schema
from luffy.data.source import SourceSpec, open_source
from luffy.data.system_prompt import DEFAULT, KEEP, NONE, system_rewriter
from luffy.errors import InputError

FIXTURES = Path(__file__).parent / "fixtures" / "data"


def read(path: Path, *, system: str = NONE, teacher: str = "r1", **columns: str) -> list:
    source = open_source(SourceSpec(location=str(path), teacher=teacher, **columns), system=system_rewriter(system))
    return [source.layout.read(row, "row") for file in source.files for batch in source.batches(file, 1) for row in batch.rows()]


def test_openr1_raw_takes_all_generations_and_not_the_messages():
    first, second = read(FIXTURES / "openr1_raw.jsonl")
    assert first.prompt == ({"role": "user", "content": "A train covers $120$ km in $1.5$ hours. Find its average speed in km/h."},)
    assert first.gold == "80"
    assert [trace.text.count("120 / 1.5") for trace in first.traces] == [1, 1]
    assert {trace.source for trace in first.traces} == {"r1"}
    assert second.gold == "\\frac{3}{4}"
    assert second.traces[1].text == "<think>\ndivide by"


def test_numina_takes_the_solution_as_trace():
    first, second = read(FIXTURES / "numina.jsonl", teacher="human")
    assert (first.gold, second.gold) == ("14", "24")
    assert second.traces[0].text == "$1024-1000=\\boxed{24}$"
    assert second.traces[0].source == "human"


def test_messages_split_into_prompt_and_trace():
    first, second = read(FIXTURES / "messages.jsonl", system=KEEP)
    assert [message["role"] for message in first.prompt] == ["system", "user"]
    assert first.traces[0].text.endswith("\\boxed{100}.")
    assert [message["role"] for message in second.prompt] == ["user"]  # a chat is kept as it is


def test_share_gpt_roles_and_a_number_as_answer():
    (only,) = read(FIXTURES / "sharegpt.jsonl")
    assert only.prompt == ({"role": "user", "content": "What is the least common multiple of 4 and 6?"},)
    assert only.gold == "12"
    assert "4,8,12" in only.traces[0].text


@pytest.mark.parametrize("name", ["question_solution_answer.csv", "question_solution_answer.json"])
def test_plain_columns(name: str):
    rows = read(FIXTURES / name, system=KEEP)
    assert len(rows) == 2
    assert [row.gold for row in rows] == (["9", "5"] if name.endswith("csv") else ["8", "15"])
    assert all(row.prompt[0] == {"role": "system", "content": DEFAULT} for row in rows)
    assert all(row.traces[0].text.startswith("<think>\n") for row in rows)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow-file", ".arrow-stream"])
def test_columnar_files_read_like_json_lines(tmp_path: Path, suffix: str):
    rows = pa.Table.from_pylist([{"problem": f"p{i}", "generations": [f"a{i}", None], "answer": str(i)} for i in range(5)])
    path = tmp_path / ("x.parquet" if suffix == ".parquet" else "x.arrow")
    if suffix == ".parquet":
        pq.write_table(rows, path)
    else:
        new = pa.ipc.new_file if suffix.endswith("file") else pa.ipc.new_stream
        with new(str(path), rows.schema) as writer:
            writer.write_table(rows, max_chunksize=2)
    examples = read(path)
    assert [example.question for example in examples] == ["p0", "p1", "p2", "p3", "p4"]
    assert [trace.text for trace in examples[3].traces] == ["a3", ""]


def test_a_32_bit_number_is_the_answer_that_was_written(tmp_path: Path):
    answers = pa.array([0.1, 1e22, 2.5, None], pa.float32())
    pq.write_table(pa.table({"problem": ["q"] * 4, "solution": ["t"] * 4, "answer": answers}), tmp_path / "x.parquet")
    assert [row.gold for row in read(tmp_path / "x.parquet")] == ["0.1", "1e+22", "2.5", ""]


def test_a_column_of_maps_is_an_object(tmp_path: Path):
    reward = pa.array([[("ground_truth", "7"), ("style", "rule")]], pa.map_(pa.string(), pa.string()))
    pq.write_table(pa.table({"problem": ["q"], "solution": ["t"], "reward_model": reward}), tmp_path / "x.parquet")
    assert [row.gold for row in read(tmp_path / "x.parquet")] == ["7"]


def test_the_training_layout_keeps_sources_probabilities_and_empty_traces(tmp_path: Path):
    row = {
        "data_source": "aops",
        "prompt": [{"role": "user", "content": "q"}],
        "target": [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": None}],
        "target_source": ["qwq", None],
        "target_probs": [[0.5, 1.0], None],
        "ability": "algebra",
        "reward_model": {"style": "rule", "ground_truth": "7"},
        "extra_info": {"index": 3, "split": "train"},
    }
    pq.write_table(pa.Table.from_pylist([row], schema=arrow_schema("train")), tmp_path / "x.parquet")
    (example,) = read(tmp_path / "x.parquet", system=KEEP)
    assert example.prompt == ({"role": "user", "content": "q"},)
    assert (example.data_source, example.ability, example.gold) == ("aops", "algebra", "7")
    assert (example.traces[0].source, example.traces[0].probabilities) == ("qwq", (0.5, 1.0))
    assert example.traces[1].text == ""


def test_a_boxed_or_marked_answer_is_taken_out_of_a_solution(tmp_path: Path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"q":"a","s":"so \\\\boxed{1}. No: \\\\boxed{\\\\frac{2}{3}}"}\n{"q":"b","s":"5+5\\n#### 10"}\n')
    rows = read(path, prompt="q", trace="s", answer="s")
    assert [row.gold for row in rows] == ["\\frac{2}{3}", "10"]


def test_a_problem_and_its_response_as_input_and_output(tmp_path: Path):
    """NVIDIA's reasoning sets: the input is a text, or a chat."""
    path, trace = tmp_path / "x.jsonl", "<think>2 + 3</think> \\boxed{5}"
    rows = [{"input": "What is 2+3?", "output": trace}, {"input": [{"role": "user", "content": "What is 2+3?"}], "output": trace}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for row in read(path):
        assert (row.prompt, row.gold, row.traces[0].text) == (({"role": "user", "content": "What is 2+3?"},), "5", trace)


def test_named_columns_must_exist_and_unknown_ones_are_listed():
    with pytest.raises(InputError, match=r"no column 'quiz' \(--prompt-column\); its columns are a, b"):
        find_layout(["a", "b"], SourceSpec(location="", prompt="quiz"), system=system_rewriter(NONE), traces=True, where="f")
    with pytest.raises(InputError, match=r"hold the gold answer \(--answer-column names it\); its columns are problem, trace"):
        find_layout(["problem", "trace"], SourceSpec(location=""), system=system_rewriter(NONE), traces=True, where="f")
    with pytest.raises(InputError, match=r"the problem \(--prompt-column .*the traces \(--trace-column .*the gold answer"):
        find_layout(["Problem", "Trace"], SourceSpec(location=""), system=system_rewriter(NONE), traces=True, where="f")


@pytest.mark.parametrize(
    ("column", "turns"),
    [
        ("messages", [{"role": "user", "content": "3+4?"}, {"role": "assistant", "content": "So \\boxed{7}"}]),
        ("conversations", [{"from": "human", "value": "3+4?"}, {"from": "gpt", "value": "So \\boxed{7}"}]),
    ],
)
def test_without_other_answers_a_conversation_ends_with_the_gold_one(tmp_path: Path, column, turns):
    """As Alpaca's output does: nothing has to be named."""
    path = tmp_path / "x.json"
    path.write_text(json.dumps([{column: turns}, {column: turns[:1]}]))
    full, open_end = read(path, system=NONE)
    assert (full.question, full.gold, [trace.text for trace in full.traces]) == ("3+4?", "7", ["So \\boxed{7}"])
    assert (open_end.gold, open_end.traces[0].text) == ("", "")


def test_system_prompt_choices(tmp_path: Path):
    bare = ({"role": "user", "content": "q"},)
    chat = ({"role": "system", "content": "old"}, *bare)
    assert system_rewriter(KEEP)(chat, False) == chat
    assert system_rewriter(KEEP)(bare, False) == bare
    assert system_rewriter(NONE)(chat, False) == bare
    assert system_rewriter("new")(chat, False)[0]["content"] == "new"
    assert system_rewriter("True and/or false? Say which.")(chat, False)[0]["content"].startswith("True and/or")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe")
    for choice, message in ((tmp_path / "no.txt", "is no file"), ("no.md", "is no file"), (tmp_path / "b.txt", "no text in UTF-8")):
        with pytest.raises(InputError, match=message):
            system_rewriter(str(choice))
    (tmp_path / "s.txt").write_text("from a file\n")
    assert system_rewriter(str(tmp_path / "s.txt"))(bare, True)[0]["content"] == "from a file"
    pq.write_table(pa.table({"prompt": [list(chat)]}), tmp_path / "s.parquet")
    assert system_rewriter(str(tmp_path / "s.parquet"))(bare, True)[0]["content"] == "old"


def test_the_former_name_of_the_probabilities_is_read_and_said(tmp_path: Path, caplog):
    row = {
        "prompt": [{"role": "user", "content": "q"}],
        "target": [{"role": "assistant", "content": "a"}],
        "reward_model": {"style": "rule", "ground_truth": "7"},
        "target_ds_qwen_7b_probs": [0.5, 0.25],
    }
    for name, value in (("flat", [0.5, 0.25]), ("nested", [[0.5, 0.25]])):
        pq.write_table(pa.Table.from_pylist([row | {"target_ds_qwen_7b_probs": value}]), tmp_path / f"{name}.parquet")
        (example,) = read(tmp_path / f"{name}.parquet")
        assert example.traces[0].probabilities == (0.5, 0.25)
    assert "column 'target_ds_qwen_7b_probs' is read as 'target_probs'" in caplog.text


@pytest.mark.parametrize(("column", "near"), [("target_prob", "target_probs"), ("data_sources", "data_source"), ("answers", "answer")])
def test_a_column_that_is_nearly_known_is_named(tmp_path: Path, caplog, column: str, near: str):
    row = {"problem": "q", "generations": ["t"], "final_answer": "1", column: "x", "source": "s", "difficulty": "3"}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "x.parquet")
    read(tmp_path / "x.parquet")
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        f"column '{column}' is not read; if it is '{near}', rename it"
    ]
