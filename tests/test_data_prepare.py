"""The training set, end to end: every drop is counted, traces are merged, and the result is the same to the byte."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from data_sets import ROOT, read_rows, run_script, save_tokenizer, trace, write_lines

from luffy.data import merge, prepare
from luffy.data.schema import arrow_schema
from luffy.files import replacing

pytestmark = pytest.mark.usefixtures("shared_grader")

QUESTION = "What is one plus {}, in digits?"


def problem(number: int, *traces: str | None, answer: str | None = None) -> dict:
    return {
        "problem": QUESTION.format(number),
        "generations": list(traces),
        "answer": str(number + 1) if answer is None else answer,
    }


def report_of(output: Path) -> dict:
    return json.loads((output.parent / f"{output.stem}_report" / "report.json").read_text())


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out" / "train.parquet"


def test_every_reason_is_counted(monkeypatch, tmp_path, output, tokenizer):
    long_prompt = problem(8, trace("9")) | {"problem": "Long? " * 60}
    source = write_lines(
        tmp_path / "a.jsonl",
        [
            problem(1, trace("2"), trace("3"), "no tags \\boxed{2}", "<think>a<think>b</think>\\boxed{2}", None),
            problem(2, trace("3", "x" * 300)),
            problem(3, "<think>\nnothing\n</think>\n"),
            problem(4, trace("5")) | {"problem": " \n"},
            problem(5, trace("6"), answer=""),
            long_prompt,
            problem(6, trace("7"), trace("7")),
            problem(6, trace("7")),
            problem(6, trace("7", "otherwise")),
            problem(6, trace("8"), answer="8"),
            problem(9, "</think> first <think>\\boxed{10}", trace("\\frac{20}{2}")),
        ],
    )
    code = run_script(
        monkeypatch, "prepare_train.py", "--source", source, "--output", output, "--system-prompt", "none",
        "--tokenizer", tokenizer, "--max-prompt-length", 120, "--max-response-length", 100, "--num-workers", 1,
    )  # fmt: skip
    assert code == 0
    report = report_of(output)
    assert report["dropped_rows"] == {
        "empty_prompt": 1, "no_answer": 1, "prompt_too_long": 1, "no_trace_left": 2, "duplicate_prompt": 1,
        "conflicting_answer": 1,
    }  # fmt: skip
    assert report["dropped_traces"] == {
        "empty_prompt": 1, "no_answer": 1, "prompt_too_long": 1, "conflicting_answer": 1, "empty_trace": 1,
        "think_tags_missing": 2, "think_tags_doubled": 1, "trace_too_long": 1, "wrong_answer": 1, "unverifiable": 1,
        "duplicate_trace": 2,
    }  # fmt: skip
    assert (report["rows_in"], report["rows_out"], report["merged_rows"]) == (11, 3, 1)
    assert (report["traces_in"], report["traces_out"]) == (17, 4)
    assert report["rows_in"] == report["rows_out"] + report["merged_rows"] + sum(report["dropped_rows"].values())
    assert report["traces_in"] == report["traces_out"] + sum(report["dropped_traces"].values())
    rows = read_rows(output)
    assert [row["reward_model"]["ground_truth"] for row in rows] == ["2", "7", "10"]
    assert [len(row["target"]) for row in rows] == [1, 2, 1]
    # One token a byte: trace("2") has 8 + 1 + 2 + 1 + 9 + 10 - 1 bytes, and EOS.
    assert report["trace_lengths"]["shortest"] == len("<think>\nso\n</think>\n\\boxed{2}") + 1
    assert report["unit"] == "tokens"
    assert report["settings"]["input"] == [str(source)]
    assert report["settings"]["filter"]["max_response_length"] == 100


def test_each_drop_is_listed_with_its_place(monkeypatch, tmp_path, output):
    source = write_lines(tmp_path / "a.jsonl", [problem(1, trace("2")), problem(2, trace("3"), trace("4")), problem(1, trace("2"))])
    assert run_script(monkeypatch, "prepare_train.py", "--source", source, "--output", output) == 0
    listed = [json.loads(line) for line in (output.parent / "train_report" / "dropped.jsonl").read_text().splitlines()]
    assert {(drop["row"], drop["trace"], drop["reason"]) for drop in listed} == {
        (1, 1, "wrong_answer"),
        (2, None, "duplicate_trace"),
        (2, None, "duplicate_prompt"),
    }
    assert {drop["file"] for drop in listed} == {str(source)}
    assert (output.parent / "train_report" / "lengths.png").read_bytes().startswith(b"\x89PNG")
    assert "duplicate_prompt" in (output.parent / "train_report" / "report.txt").read_text()


def test_teachers_of_several_sources_meet_in_one_row(monkeypatch, tmp_path, output):
    first = write_lines(tmp_path / "a.jsonl", [problem(n, trace(str(n + 1), "first")) for n in range(30)])
    second = tmp_path / "b.json"
    second.write_text(
        json.dumps(
            [
                {"question": QUESTION.format(n).upper(), "solution": trace(str(n + 1), "second"), "answer": n + 1}
                for n in reversed(range(30))
            ]
        )
    )
    monkeypatch.setattr(prepare, "SHARD_ROWS", 7)
    monkeypatch.setattr(merge, "_ROW_GROUP", 4)
    monkeypatch.setattr(merge, "_ENTRIES_AT_ONCE", 3)
    arguments = ["--source", first, second, "--teacher", "r1", "qwq", "--output", output]
    assert run_script(monkeypatch, "prepare_train.py", *arguments) == 0
    rows = read_rows(output)
    assert [row["extra_info"] for row in rows] == [{"index": n, "split": "train"} for n in range(30)]
    assert [row["prompt"][1]["content"] for row in rows] == [QUESTION.format(n) for n in range(30)]
    assert all(row["target_source"] == ["r1", "qwq"] for row in rows)
    assert all(
        [m["content"] for m in row["target"]] == [trace(str(n + 1), "first"), trace(str(n + 1), "second")] for n, row in enumerate(rows)
    )
    assert pq.read_schema(output).equals(arrow_schema("train"))
    assert run_script(monkeypatch, "prepare_train.py", *arguments, "--max-traces", 1) == 0
    assert report_of(output)["dropped_traces"] == {"beyond_max_traces": 30}
    assert all(row["target_source"] == ["r1"] for row in read_rows(output))


def test_a_stored_success_rate_is_kept(monkeypatch, tmp_path, output, capsys):
    """The first of a problem's rows that knows it gives it; without any the file has no such column (other tests)."""
    first, again, unknown = problem(1, trace("2")), problem(1, trace("2", "twice")), problem(2, trace("3"))
    rows = [first, again | {"policy_success": 0.25}, unknown | {"policy_success": None}, problem(3, trace("4")) | {"policy_success": 1}]
    arguments = ["prepare_train.py", "--output", output, "--num-workers", 1, "--no-verify", "--source"]
    assert run_script(monkeypatch, *arguments, write_lines(tmp_path / "a.jsonl", rows)) == 0
    assert [row["policy_success"] for row in read_rows(output)] == [0.25, None, 1.0]
    assert pq.read_schema(output).equals(arrow_schema("train", known=["policy_success"]))
    wrong = write_lines(tmp_path / "b.jsonl", [problem(1, trace("2")) | {"policy_success": "half"}])
    assert run_script(monkeypatch, *arguments, wrong) == 2
    assert "b.jsonl row 0: column 'policy_success' holds 'half'; it must be a share" in capsys.readouterr().err


def test_same_input_and_seed_give_the_same_bytes(monkeypatch, tmp_path, output):
    source = write_lines(tmp_path / "a.jsonl", [problem(n, trace(str(n + 1))) for n in range(40)])
    arguments = ["--source", source, "--output", output, "--shuffle", "--max-samples", 25]
    contents = []
    for seed in (1, 1, 2):
        assert run_script(monkeypatch, "prepare_train.py", *arguments, "--seed", seed) == 0
        report = output.parent / "train_report"
        contents.append([path.read_bytes() for path in (output, *sorted(report.iterdir()))])
    assert contents[0] == contents[1]
    assert contents[0][0] != contents[2][0]
    golds = [int(row["reward_model"]["ground_truth"]) for row in read_rows(output)]
    assert len(set(golds)) == 25 and golds != sorted(golds)
    assert report_of(output)["dropped_rows"] == {"beyond_max_samples": 15}


def test_a_leak_is_an_error_unless_allowed(monkeypatch, tmp_path, output, capsys):
    source = write_lines(tmp_path / "a.jsonl", [problem(n, trace(str(n + 1))) for n in range(5)])
    exact, typeset = QUESTION.format(1), QUESTION.format(3).replace("three", "3").replace(",", "$,$").upper()
    evaluation = write_lines(tmp_path / "valid.jsonl", [{"problem": exact, "answer": "2"}, {"problem": typeset, "answer": "4"}])
    arguments = ["--source", source, "--output", output, "--eval-files", evaluation]
    assert run_script(monkeypatch, "prepare_train.py", *arguments) == 2
    assert "2 prompts are in the evaluation sets (exact: valid 1, normalised: valid 1)" in capsys.readouterr().err
    assert not output.exists()
    assert run_script(monkeypatch, "prepare_train.py", *arguments, "--on-overlap", "drop") == 0
    assert [row["extra_info"]["index"] for row in read_rows(output)] == [0, 1, 2]
    assert report_of(output)["dropped_rows"] == {"overlap_with_evaluation": 2}
    assert run_script(monkeypatch, "prepare_train.py", *arguments, "--on-overlap", "keep") == 0
    assert len(read_rows(output)) == 5


def test_dry_run_writes_the_report_alone(monkeypatch, tmp_path, output):
    source = write_lines(tmp_path / "a.jsonl", [problem(1, trace("2")), problem(2, trace("1"))])
    assert run_script(monkeypatch, "prepare_train.py", "--source", source, "--output", output, "--dry-run") == 0
    assert [path.name for path in output.parent.iterdir()] == ["train_report"]
    assert report_of(output)["rows_out"] == 1


def test_solutions_without_thoughts_need_a_flag_that_the_error_names(monkeypatch, output, capsys):
    source = Path(__file__).parent / "fixtures" / "data" / "numina.jsonl"
    arguments = ["--source", source, "--output", output, "--teacher", "human"]
    assert run_script(monkeypatch, "prepare_train.py", *arguments) == 2
    assert (
        "think_tags_missing 2 (a think tag is missing, or they are in the wrong order; --no-think-tags accepts it)"
        in capsys.readouterr().err
    )
    assert run_script(monkeypatch, "prepare_train.py", *arguments, "--no-think-tags") == 0  # nothing is left of the first try
    assert [row["reward_model"]["ground_truth"] for row in read_rows(output)] == ["14", "24"]


def test_parts_of_other_settings_are_refused_by_name(monkeypatch, tmp_path, output, capsys):
    source = write_lines(tmp_path / "a.jsonl", [problem(1, trace("2"))])
    arguments = ["--source", source, "--output", output, "--eval-files", source]
    assert run_script(monkeypatch, "prepare_train.py", *arguments) == 2  # the row is in the evaluation set; its part is finished
    capsys.readouterr()
    assert run_script(monkeypatch, "prepare_train.py", *arguments, "--no-verify") == 2
    assert "other settings (verify)" in capsys.readouterr().err
    assert run_script(monkeypatch, "prepare_train.py", *arguments, "--no-verify", "--restart", "--on-overlap", "keep") == 0


def test_a_first_try_without_a_finished_part_is_in_nobodys_way(monkeypatch, tmp_path, output):
    rows = [problem(1, trace("2")), problem(2) | {"generations": 5}]
    source = write_lines(tmp_path / "a.jsonl", rows)
    assert run_script(monkeypatch, "prepare_train.py", "--source", source, "--output", output) == 2
    write_lines(tmp_path / "a.jsonl", rows[:1])
    assert run_script(monkeypatch, "prepare_train.py", "--source", source, "--output", output) == 0


SLOW_RUN = """
import sys, time
from luffy.data import merge, prepare
prepare.SHARD_ROWS = 5
write = merge.Shards.write
def slow(*arguments):
    time.sleep(0.02)
    write(*arguments)
merge.Shards.write = slow
import runpy
sys.argv[0] = "prepare_train.py"
runpy.run_path("data/prepare_train.py", run_name="__main__")
"""


@pytest.mark.slow
def test_a_run_killed_at_any_moment_goes_on_to_the_same_bytes(tmp_path):
    source = write_lines(tmp_path / "a.jsonl", [problem(n, trace(str(n + 1)), trace("0", str(n))) for n in range(200)])
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def start(output: Path) -> subprocess.Popen:
        command = [
            sys.executable,
            "-c",
            SLOW_RUN,
            "--source",
            str(source),
            "--output",
            str(output),
            "--num-workers",
            "1",
        ]
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    whole, killed = tmp_path / "whole" / "t.parquet", tmp_path / "killed" / "t.parquet"
    assert start(whole).wait() == 0
    partial = killed.with_name("t.parquet.partial")
    generator, done, first = random.Random(7), 0, 0
    for _ in range(2):
        process = start(killed)
        while process.poll() is None and len(list(partial.glob("part-*.arrow"))) <= done:
            time.sleep(0.01)
        time.sleep(generator.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not killed.exists()
        done = len(list(partial.glob("part-*.arrow")))
        assert 0 < done < 40
        first = first or (partial / "part-000000.arrow").stat().st_mtime_ns
        assert (partial / "part-000000.arrow").stat().st_mtime_ns == first  # what is done is not done again
    assert start(killed).wait() == 0
    assert killed.read_bytes() == whole.read_bytes()
    assert not partial.exists()


def test_a_failure_while_writing_leaves_the_old_file(monkeypatch, tmp_path, output):
    source = write_lines(tmp_path / "a.jsonl", [problem(n, trace(str(n + 1))) for n in range(10)])
    arguments = ["--source", source, "--output", output]
    output.parent.mkdir()
    output.write_bytes(b"old")

    def fail(work, plan, path, split):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(prepare, "write_merged", fail)
        assert run_script(patched, "prepare_train.py", *arguments) == 130
    assert output.read_bytes() == b"old"
    assert [path.name for path in output.parent.glob(".*")] == []
    assert run_script(monkeypatch, "prepare_train.py", *arguments) == 0
    assert len(read_rows(output)) == 10


def test_a_file_is_replaced_as_a_whole_and_never_written_over(tmp_path):
    path, other_name = tmp_path / "t.json", tmp_path / "same file"
    path.write_text("old")
    os.link(path, other_name)
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert (path.read_text(), other_name.read_text()) == ("new", "old")


def test_two_runs_never_write_the_same_output(tmp_path):
    from luffy.data.merge import open_shards
    from luffy.errors import InputError

    with (
        open_shards(tmp_path / "t.parquet", {}),
        pytest.raises(InputError, match="another run is writing"),
        open_shards(tmp_path / "t.parquet", {}),
    ):
        pass


def test_a_wrong_answer_says_what_was_found_and_asked_for(monkeypatch, tmp_path, output):
    rows = [problem(1, trace("3")), problem(2, "<think>\nno\n</think>\nI do not know."), problem(3, trace("4"))]
    source = write_lines(tmp_path / "a.jsonl", rows)
    assert run_script(monkeypatch, "prepare_train.py", "--source", source, "--output", output, "--num-workers", 1) == 0
    listed = [json.loads(line) for line in (output.parent / "train_report" / "dropped.jsonl").read_text().splitlines()]
    details = {drop["row"]: (drop["reason"], drop["detail"]) for drop in listed if drop["trace"] is not None}
    assert details[0] == ("wrong_answer", "found '3'; asked for '2'")
    assert details[1][0] in ("wrong_answer", "unverifiable") and details[1][1].endswith("asked for '3'")
    assert 2 not in details


def test_a_gold_that_cannot_be_read_is_dropped_or_kept(monkeypatch, tmp_path, output):
    source = write_lines(tmp_path / "a.jsonl", [problem(1, trace("\\frac{1}{"), answer="\\frac{1}{"), problem(2, trace("3"))])
    command = ["prepare_train.py", "--source", source, "--output", output, "--num-workers", 1]
    assert run_script(monkeypatch, *command) == 0
    assert report_of(output)["dropped_rows"] == {"unreadable_answer": 1}
    assert run_script(monkeypatch, *command, "--keep-unreadable", "--no-verify") == 0
    assert len(read_rows(output)) == 2


def test_without_the_filter_every_row_is_written_as_it_is(monkeypatch, tmp_path, output, caplog):
    rows = [
        problem(1, trace("3"), "no tags", "no tags"),
        problem(1, trace("2"), answer="7"),
        problem(1, trace("2"), answer="7"),
        problem(2, answer=""),
    ]
    source = write_lines(tmp_path / "a.jsonl", rows)
    sets = write_lines(tmp_path / "e.jsonl", [{"problem": QUESTION.format(1), "answer": "2"}])
    command = ["prepare_train.py", "--source", source, "--output", output, "--eval-files", sets]
    with caplog.at_level("INFO"):
        assert run_script(monkeypatch, *command, "--no-filter") == 0
    assert "every row is written as it is" in caplog.text
    written = read_rows(output)
    assert [[message["content"] for message in row["target"] or ()] for row in written] == [r["generations"] for r in rows]
    assert [row["reward_model"]["ground_truth"] for row in written] == ["2", "7", "7", ""]
    report = report_of(output)
    assert (report["rows_in"], report["rows_out"], report["dropped_rows"], report["dropped_traces"]) == (4, 4, {}, {})
    assert report["overlaps"] == {"exact: e": 3}  # said, and kept
