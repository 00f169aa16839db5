"""A script that another Python than the environment's runs says so in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted([*(ROOT / "data").glob("*.py"), *(ROOT / "eval_scripts").glob("*.py")])


def run_without_packages(script: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """-S leaves the site-packages out: the standard library alone, as with a system's Python."""
    command = [sys.executable, "-S", str(script), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: f"{script.parent.name}-{script.stem}")
def test_a_missing_package_is_one_line_and_exit_code_2(script, tmp_path):
    ended = run_without_packages(script, tmp_path, "--source", "a/b", "--output", "y")
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 2
    assert line.startswith(f"error: this Python ({sys.executable}) has no package '")
    assert "exp_scripts/setup.sh" in line


def test_a_missing_module_of_the_project_is_a_defect_with_its_traceback(tmp_path):
    lines = "from luffy.command_line import explain_missing_packages as e\ne()\nimport luffy.no_such_module\n"
    ended = subprocess.run([sys.executable, "-c", lines], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr.startswith("Traceback")
