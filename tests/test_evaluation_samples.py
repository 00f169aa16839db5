"""The file of samples: torn lines, two writers, a full disk, canonical order."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luffy.errors import InputError
from luffy.evaluation.samples import SampleLog, read_rows


def row(problem: int, sample: int, response: str = "x") -> dict:
    return {"problem": problem, "sample": sample, "response": response}


def fill(path: Path, rows: list[dict]) -> Path:
    with SampleLog(path) as log:
        for each in rows:
            log.append(each)
    return path


def test_rows_come_back_as_they_went_in(tmp_path):
    rows = [row(1, 0, 'Zahl: √2\u2028\n\t"quoted" 😀'), row(0, 0, "\udc80 alone")]
    assert list(read_rows(fill(tmp_path / "deep" / "a.jsonl", rows))) == rows


@settings(max_examples=30, deadline=None)
@given(cut=st.integers(0, 200))
def test_a_file_cut_anywhere_goes_on_without_loss_or_repeat(tmp_path_factory, cut):
    path = fill(tmp_path_factory.mktemp("cut") / "a.jsonl", [row(0, s, "é" * s) for s in range(5)])
    whole = path.read_bytes()
    path.write_bytes(whole[: min(cut, len(whole))])
    with SampleLog(path) as log:
        for sample in range(5):
            if (0, sample) not in log.done:
                log.append(row(0, sample, "é" * sample))
        log.finish()
    assert path.read_bytes() == whole


def test_a_torn_line_behind_a_complete_file_goes_away(tmp_path):
    path = fill(tmp_path / "a.jsonl", [row(0, 0), row(0, 1)])
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"problem": 1, "sam')
    with SampleLog(path) as log:
        log.finish()
    assert path.read_bytes() == whole


def test_finish_puts_samples_in_order_and_leaves_an_ordered_file_alone(tmp_path):
    path = fill(tmp_path / "a.jsonl", [row(2, 0), row(0, 1), row(10, 0), row(0, 0)])
    with SampleLog(path) as log:
        log.finish()
    assert [(r["problem"], r["sample"]) for r in read_rows(path)] == [(0, 0), (0, 1), (2, 0), (10, 0)]
    inode = path.stat().st_ino
    with SampleLog(path) as log:
        log.finish()
    assert path.stat().st_ino == inode
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row(0, 0)) + "\nnot json\n" + json.dumps(row(0, 1)) + "\n")
    with pytest.raises(InputError, match="line 2 is not a sample"):
        SampleLog(path)


def test_a_repeated_sample_is_an_error(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(2 * (json.dumps(row(3, 1)) + "\n"))
    with pytest.raises(InputError, match="problem 3 has sample 1 twice"):
        SampleLog(path)


def test_a_second_writer_is_refused(tmp_path):
    with SampleLog(tmp_path / "a.jsonl"), pytest.raises(InputError, match="another run is writing"):
        SampleLog(tmp_path / "a.jsonl")
    SampleLog(tmp_path / "a.jsonl").__exit__(None, None, None)


def test_a_full_disk_is_one_clear_line():
    with SampleLog("/dev/full") as log, pytest.raises(InputError, match="No space left on device.*0 finished samples"):
        log.append(row(0, 0))


def test_a_disk_that_fills_up_midway_keeps_whole_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    code = f"""
import resource, signal
from luffy.errors import InputError
from luffy.evaluation.samples import SampleLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with SampleLog({str(path)!r}) as log:
    try:
        for sample in range(100):
            log.append({{"problem": 0, "sample": sample, "response": "y" * 50}})
    except InputError as error:
        print(len(log.done), error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kept = int(done.stdout.split()[0])
    assert kept == 10  # lines of 92 bytes, and of 93 from sample 10 on
    assert f"{kept} finished samples are kept" in done.stdout
    assert path.read_bytes().endswith(b"\n") and len(list(read_rows(path))) == kept


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot write there"):
        SampleLog(tmp_path / "a.jsonl")
