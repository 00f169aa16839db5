"""What the tests of the data commands share: a tokenizer, small sources, and running a command in this process."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from miniature.tokenizer import build_tokenizer

ROOT = Path(__file__).resolve().parent.parent


def trace(answer: str, thought: str = "so") -> str:
    return f"<think>\n{thought}\n</think>\n\\boxed{{{answer}}}"


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def save_tokenizer(folder: Path) -> Path:
    """The byte-level tokenizer of the embedded example: one token a byte."""
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(folder)
    return folder


def run_script(monkeypatch: pytest.MonkeyPatch, script: str, *arguments: Any) -> int:
    """Run a command of data/ and return its exit code."""
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "data" / script), run_name="__main__")
    return int(ended.value.code or 0)


def read_rows(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()
