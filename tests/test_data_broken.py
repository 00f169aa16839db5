"""Broken input ends with exit code 2 and one line that says what and where."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_sets import run_script, trace, write_lines

from luffy.data import rows as rows_of_files
from luffy.data.rows import read_batches

pytestmark = pytest.mark.usefixtures("shared_grader")

GOOD = {"problem": "What is one plus one?", "generations": [trace("2")], "answer": "2"}
PROMPT = {"role": "user", "content": "q"}


def truncated_parquet(folder: Path) -> Path:
    path = folder / "x.parquet"
    pq.write_table(pa.Table.from_pylist([GOOD] * 100), path)
    path.write_bytes(path.read_bytes()[:-200])
    return path


def damaged_parquet(folder: Path) -> Path:
    path = folder / "x.parquet"
    pq.write_table(
        pa.Table.from_pylist([GOOD | {"problem": f"question number {i}"} for i in range(3000)]),
        path,
        compression="zstd",
        use_dictionary=False,
    )
    content = bytearray(path.read_bytes())
    content[200:1200] = bytes(1000)
    path.write_bytes(bytes(content))
    return path


def truncated_arrow(folder: Path) -> Path:
    path = folder / "x.arrow"
    table = pa.Table.from_pylist([GOOD] * 100)
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table)
    path.write_bytes(path.read_bytes()[:3000])
    return path


def empty_file(folder: Path) -> Path:
    (folder / "x.parquet").write_bytes(b"")
    return folder / "x.parquet"


def other_suffix(folder: Path) -> Path:
    (folder / "x.xlsx").write_bytes(b"PK")
    return folder / "x.xlsx"


def empty_folder(folder: Path) -> Path:
    (folder / "inside").mkdir()
    return folder / "inside"


def wrong_type(folder: Path) -> Path:
    return write_lines(folder / "x.jsonl", [GOOD, GOOD | {"problem": 17}])


def trace_of_numbers(folder: Path) -> Path:
    return write_lines(folder / "x.jsonl", [GOOD, GOOD | {"generations": [1, 2]}])


def null_message(folder: Path) -> Path:
    return write_lines(folder / "x.jsonl", [{"prompt": [PROMPT, None], "target": [], "answer": "1"}])


def null_content(folder: Path) -> Path:
    return write_lines(folder / "x.jsonl", [{"prompt": [PROMPT | {"content": None}], "target": [], "answer": "1"}])


def null_in_target(folder: Path) -> Path:
    return write_lines(folder / "x.jsonl", [{"prompt": [PROMPT], "target": [None], "answer": "1"}])


def role_in_target(folder: Path) -> Path:
    return write_lines(folder / "x.jsonl", [{"prompt": [PROMPT], "target": [PROMPT], "answer": "1"}])


def mixed_columns(folder: Path) -> Path:
    pq.write_table(pa.Table.from_pylist([GOOD]), folder / "a.parquet")
    pq.write_table(pa.Table.from_pylist([{"question": "q", "solution": "s", "answer": "1"}]), folder / "b.parquet")
    return folder


def mixed_types(folder: Path) -> Path:
    pq.write_table(pa.Table.from_pylist([GOOD]), folder / "a.parquet")
    pq.write_table(pa.Table.from_pylist([GOOD | {"answer": 2}]), folder / "b.parquet")
    return folder


def key_missing_later(folder: Path) -> Path:
    return write_lines(folder / "x.jsonl", [GOOD, {"problem": "q", "answer": "1"}])


def long_line(folder: Path) -> Path:
    path = folder / "x.jsonl"
    path.write_text('{"problem": "' + "a" * 100 * 2**20 + '"}\n')
    return path


def text_for_probabilities(folder: Path) -> Path:
    target = [{"role": "assistant", "content": trace("2")}]
    return write_lines(folder / "x.jsonl", [{"prompt": [PROMPT], "target": target, "target_probs": [["x"]], "answer": "2"}])


def role_of_two_lines(folder: Path) -> Path:
    return write_lines(folder / "x.jsonl", [{"prompt": [PROMPT | {"role": "a\nb"}], "target": [], "answer": "2"}])


def byte_order_mark(folder: Path) -> Path:
    path = write_lines(folder / "x.jsonl", [GOOD])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    return path


def utf_16(folder: Path) -> Path:
    (folder / "x.csv").write_text("problem,generations,answer\nq,t,1\n", encoding="utf-16")
    return folder / "x.csv"


def latin_1(folder: Path) -> Path:
    (folder / "x.csv").write_bytes("problem,generations,answer\ncafé,t,1\n".encode("latin-1"))
    return folder / "x.csv"


def duplicate_columns(folder: Path) -> Path:
    table = pa.Table.from_arrays([pa.array(["q"]), pa.array(["q"]), pa.array(["1"])], names=["problem", "problem", "answer"])
    pq.write_table(table, folder / "x.parquet")
    return folder / "x.parquet"


def duplicate_keys(folder: Path) -> Path:
    (folder / "x.jsonl").write_text(
        '{"problem":"p","generations":["t"],"answer":"1"}\n{"problem":"p","problem":"r","generations":[],"answer":"1"}\n'
    )
    return folder / "x.jsonl"


def duplicate_header(folder: Path) -> Path:
    (folder / "x.csv").write_text("problem,answer,answer\nq,1,2\n")
    return folder / "x.csv"


def broken_line(folder: Path) -> Path:
    path = write_lines(folder / "x.jsonl", [GOOD, GOOD])
    path.write_text(path.read_text() + '{"problem": "cut off\n')
    return path


def no_object(folder: Path) -> Path:
    (folder / "x.jsonl").write_text("7\n")
    return folder / "x.jsonl"


def text_after_an_array(folder: Path) -> Path:
    (folder / "x.json").write_text(json.dumps([GOOD]) + json.dumps([GOOD]))
    return folder / "x.json"


def several_thoughts(folder: Path) -> Path:
    row = {"question": "q", "answer": "1"}
    return write_lines(folder / "x.jsonl", [row | {f"{who}_{what}": "t" for who in ("a", "b") for what in ("attempt", "reasoning")}])


def fewer_thoughts(folder: Path) -> Path:
    return write_lines(folder / "x.jsonl", [{"question": "q", "answer": "1", "attempt": ["a", "b"], "thinking_trajectories": ["t"]}])


def earlier_turns(folder: Path) -> Path:
    return write_lines(folder / "x.jsonl", [GOOD | {"history": [["hi", "hello"]]}])


def objects_for_traces(folder: Path) -> Path:
    return write_lines(folder / "x.jsonl", [GOOD | {"generations": [{"finish": "stop"}]}])


def cut_array(folder: Path) -> Path:
    (folder / "x.json").write_text('[{"problem": "p", "generations": [], "answer": "1"}, {"problem": ')
    return folder / "x.json"


def short_csv_row(folder: Path) -> Path:
    (folder / "x.csv").write_text("problem,generations,answer\nq,t,1\nq,t\n")
    return folder / "x.csv"


CASES: dict[Callable[[Path], Path], str] = {
    truncated_parquet: "x.parquet is no whole parquet file",
    damaged_parquet: "x.parquet is no whole parquet file",
    truncated_arrow: "x.arrow is no whole arrow file",
    empty_file: "x.parquet is empty (0 bytes)",
    other_suffix: "x.xlsx has an unknown format",
    empty_folder: "holds no data file",
    wrong_type: "x.jsonl row 1: column 'problem' holds int",
    trace_of_numbers: "x.jsonl row 1: column 'generations' holds int",
    null_message: "x.jsonl row 0: prompt[1] is null",
    null_content: "x.jsonl row 0: prompt[0] has role str and content null",
    null_in_target: "x.jsonl row 0: column 'target' holds a list of NoneType",
    role_in_target: "x.jsonl row 0: column 'target' holds a message of role 'user'",
    mixed_columns: "b.parquet has no column 'problem', which",
    mixed_types: "b.parquet has column 'answer' as int64",
    key_missing_later: "x.jsonl row 1 has no column 'generations', which other rows have",
    long_line: "x.jsonl line 1 is longer than 64 MiB",
    text_for_probabilities: "row 0: column 'target_probs' must hold a list of numbers for each trace",
    role_of_two_lines: "row 0: prompt[0] has the unknown role 'a\\nb'; roles are",
    byte_order_mark: "x.jsonl starts with a UTF-8 byte order mark",
    utf_16: "x.csv starts with a UTF-16 byte order mark",
    latin_1: "x.csv is not UTF-8",
    duplicate_columns: "x.parquet has the column 'problem' 2 times",
    duplicate_keys: "x.jsonl line 2 has the column 'problem' twice",
    duplicate_header: "x.csv has the column 'answer' 2 times",
    broken_line: "x.jsonl line 3 is no valid JSON",
    no_object: "x.jsonl line 1 is no object of columns",
    text_after_an_array: "x.json goes on after its array of 1 elements",
    several_thoughts: "several columns of traces with thoughts (a_attempt, b_attempt); name one: --trace-column",
    fewer_thoughts: "row 0: column 'thinking_trajectories' holds 1 thoughts for 2 traces",
    earlier_turns: "row 0: column 'history' holds earlier turns",
    objects_for_traces: "row 0: column 'generations' holds dict; a trace must be text",
    cut_array: "x.json element 1 is no valid JSON",
    short_csv_row: "x.csv row 1 (line 3) has 2 fields, the header 3",
}


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_broken_input_is_one_line_and_exit_code_2(monkeypatch, tmp_path, capsys, make):
    folder = tmp_path / "in"
    folder.mkdir()
    output = tmp_path / "out" / "t.parquet"
    assert run_script(monkeypatch, "prepare_train.py", "--source", make(folder), "--output", output) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert CASES[make] in errors[0]
    assert not output.exists()


def test_malformed_rows_can_be_dropped_and_counted(monkeypatch, tmp_path):
    output = tmp_path / "out" / "t.parquet"
    assert run_script(monkeypatch, "prepare_train.py", "--source", wrong_type(tmp_path), "--output", output, "--drop-malformed") == 0
    assert pq.read_metadata(output).num_rows == 1
    assert '"malformed": 1' in (output.parent / "t_report" / "report.json").read_text()


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("prepare_train.py", ["--source", "no/such/place.jsonl"], "no/such/place.jsonl does not exist"),
        (
            "prepare_train.py",
            ["--source", "SOURCE", "--teacher", "a", "b"],
            "--teacher was given 2 values for 1 sources",
        ),
        (
            "prepare_train.py",
            ["--source", "SOURCE", "--tokenizer", "/no/tokenizer"],
            "--tokenizer /no/tokenizer is not a folder",
        ),
        ("prepare_train.py", ["--source", ""], "a source has no name"),
        ("prepare_train.py", ["--source", "SOURCE", "--split", "train[:9]"], "of local files one whole split is read"),
        ("check.py", ["SOURCE", "--limit", "0"], "--limit: '0' is not a whole number above 0"),
        ("prepare_train.py", ["--source", "SOURCE", "--eval-files", "none.parquet"], "none.parquet does not exist"),
        ("prepare_sft.py", ["--input", "none.parquet"], "none.parquet does not exist"),
        ("prepare_sft.py", ["--input", "SOURCE"], "is no parquet file"),
        ("prepare_train_sft_rl.py", ["--source", "SOURCE", "--exclude", "none.parquet"], "none.parquet does not exist"),
        ("prepare_eval.py", ["--local", "maths=x"], "--local maths=x is not NAME=PATH"),
        ("prepare_eval.py", ["--local", "math500=x"], "--local math500=x: x does not exist"),
        ("check.py", ["none.parquet"], "none.parquet does not exist"),
    ],
)
def test_wrong_options(monkeypatch, tmp_path, capsys, script, arguments, message):
    source = write_lines(tmp_path / "a.jsonl", [GOOD])
    named = [str(source) if argument == "SOURCE" else argument for argument in arguments]
    target = (
        ["--output-folder", tmp_path]
        if script == "prepare_eval.py"
        else []
        if script == "check.py"
        else ["--output", tmp_path / "t.parquet"]
    )
    assert run_script(monkeypatch, script, *named, *target) == 2
    assert message in capsys.readouterr().err


def test_what_is_read_is_never_written_over(monkeypatch, tmp_path, capsys):
    source = write_lines(tmp_path / "a.jsonl", [GOOD])
    output = tmp_path / "t.parquet"
    assert run_script(monkeypatch, "prepare_train.py", "--source", source, "--output", output) == 0
    (tmp_path / "link.parquet").symlink_to(output)
    before = {path: path.read_bytes() for path in (source, output)}
    commands = [
        (["prepare_train.py", "--source", source, "--output", source], "a.jsonl will be a parquet file"),
        (["prepare_train.py", "--source", output, "--output", output], "t.parquet is what is read, and would be lost"),
        (["prepare_train.py", "--source", output, "--output", tmp_path / "link.parquet"], "is what is read"),
        (["prepare_sft.py", "--input", output, "--output", output], "t.parquet is what is read"),
    ]
    for command, message in commands:
        assert run_script(monkeypatch, *command) == 2
        assert message in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in before} and (tmp_path / "link.parquet").is_symlink()


def test_a_place_that_cannot_be_written_is_one_line(monkeypatch, tmp_path, capsys):
    source = write_lines(tmp_path / "a.jsonl", [GOOD])
    assert run_script(monkeypatch, "prepare_train.py", "--source", source, "--output", source / "t.parquet") == 2
    assert "Not a directory; give another place" in capsys.readouterr().err


def test_without_a_network_the_published_set_fails_within_seconds(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    start = time.monotonic()
    assert run_script(monkeypatch, "prepare_train.py", "--output", tmp_path / "t.parquet") == 2
    assert time.monotonic() - start < 20
    line = capsys.readouterr().err.splitlines()[-1]
    for part in (
        "Elliott/Openr1-Math-46k-8192 is neither reachable on the hub nor in the local cache",
        "--source DIR",
        "HF_HUB_OFFLINE=1",
    ):
        assert part in line


def test_an_array_is_read_element_by_element(monkeypatch, tmp_path):
    monkeypatch.setattr(rows_of_files, "_CHUNK", 16)
    rows = [{"a": "x" * size, "b": [{"c": size}]} for size in (0, 1, 40, 200, 3)]
    (tmp_path / "x.json").write_text("\n " + json.dumps(rows, indent=2))
    batches = list(read_batches(tmp_path / "x.json", 2, ["a", "b"]))
    assert [row for batch in batches for row in batch.rows()] == rows
    assert [batch.first_row for batch in batches] == [0, 2, 4]
