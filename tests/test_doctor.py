"""The doctor's table and exit code, on this machine as it is and with something taken away."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

from forked import run_module

from verl.mix_src.doctor import Finding, _at_least, table


def test_this_machine_can_run_and_one_without_its_plugin_cannot(tmp_path: Path) -> None:
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "verl.mix_src.doctor"]
    sound = run_module(command[-1], environment=offline)
    assert sound.returncode == 0 and sound.stdout.splitlines()[-1] == "a run can start", sound.stdout
    assert "FAILS" not in sound.stdout and "plugin of veRL" in sound.stdout
    deep = tmp_path / ("d" * 70)
    deep.mkdir()

    def few_files() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))

    ill = {**offline, "VERL_USE_EXTERNAL_PLUGINS": "none", "TMPDIR": str(deep)}
    broken = subprocess.run(command, capture_output=True, text=True, env=ill, preexec_fn=few_files, timeout=300)
    assert broken.returncode == 1 and broken.stdout.splitlines()[-1] == "a run would fail: plugin of veRL, TMPDIR"
    (line,) = [line for line in broken.stdout.splitlines() if line.startswith("open files")]
    assert line.split()[4:6] == ["512", "warning"] and "ulimit -n 4096 (up to 512 without root)" in line


def test_a_lack_says_what_to_do() -> None:
    assert _at_least("disk", 0.4, 0.5, "FAILS", "free some") == Finding("disk", "0.4 GiB free", "FAILS", "0.5 GiB are wanted: free some")
    assert _at_least("disk", 0.5, 0.5, "FAILS", "free some") == Finding("disk", "0.5 GiB free", "ok", "")


def test_the_columns_stand_below_each_other() -> None:
    lines = table([Finding("a", "long found", "ok"), Finding("bbb", "x", "FAILS", "do")]).splitlines()
    assert lines == ["a    long found  ok", "bbb  x           FAILS    do"]
