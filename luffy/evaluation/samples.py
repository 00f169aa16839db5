"""A JSONL file of samples that grows line by line, survives whatever stops its writer, and may come from other programs.

A line is one sample and is on its way to the disk before the next begins. A writer that was killed leaves at most one
torn line at the end, which is cut off when the file is opened again; a whole last line that only lacks its end counts.
When all samples are there the file is rewritten in canonical order, in one step, so that the same run gives the same
bytes whatever happened on the way.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from luffy.data.text import load_json
from luffy.errors import InputError
from luffy.evaluation.prompts import is_gold
from luffy.files import hold, replacing

Key = tuple[int, int]  # (problem, sample)

LONGEST = 10**12  # tokens; what is longer is no length
CUT_OFF = "length"
CUT_OFF_ELSEWHERE = ("max_tokens", "max_new_tokens", "max_length", "max_output_tokens", "truncated")  # of other programs
VERDICTS = {True: True, False: False, "true": True, "false": False, "1": True, "0": False}

logger = logging.getLogger(__name__)


class SampleLog:
    """An open JSONL file of samples; use it as a context manager.

    Args:
        path: the file; it and its folder are created where absent.

    Attributes:
        done: keys (problem, sample) of the lines in the file.

    Raises:
        InputError: where the file is held by another run, or a line in its middle is not a sample.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._descriptor = hold(self.path, f"{self.path}: another run is writing this file; wait for it, or give another")
        try:
            self.done, self._size = _scan(self.path)
        except InputError:
            os.close(self._descriptor)
            raise
        self._cut()
        if self._size and os.pread(self._descriptor, 1, self._size - 1) != b"\n":
            self._write(b"\n")

    def __enter__(self) -> SampleLog:
        return self

    def __exit__(self, *raised: object) -> None:
        os.close(self._descriptor)

    def append(self, row: dict[str, Any]) -> None:
        """Add one sample, whole or not at all.

        Raises:
            InputError: where the disk is full; the file then ends with the last whole line.
        """
        assert row_key(row) not in self.done, f"sample {row_key(row)} twice"
        self._write(json.dumps(row, ensure_ascii=False).encode("utf-8", errors="backslashreplace") + b"\n")
        self.done.add(row_key(row))

    def sync(self) -> None:
        """Wait until the file is on the disk, so that a loss of power takes nothing of it either."""
        os.fsync(self._descriptor)

    def finish(self) -> None:
        """Rewrite the file in the order of (problem, sample), atomically; a file in this order is left as it is."""
        offsets = sorted((row_key(row), offset, length) for _, row, offset, length in _lines(self.path))
        if all(left[1] < right[1] for left, right in zip(offsets, offsets[1:], strict=False)):
            return
        try:
            with open(self.path, "rb") as source, replacing(self.path) as temporary, open(temporary, "wb") as target:
                for _, offset, length in offsets:
                    source.seek(offset)
                    target.write(source.read(length))
        except OSError as error:
            raise write_failure(self.path, error, kept=len(self.done)) from error

    def _write(self, line: bytes) -> None:
        try:
            written = 0
            while written < len(line):
                written += os.pwrite(self._descriptor, line[written:], self._size + written)
        except OSError as error:
            self._cut()
            raise write_failure(self.path, error, kept=len(self.done)) from error
        self._size += len(line)

    def _cut(self) -> None:
        try:
            os.ftruncate(self._descriptor, self._size)
        except OSError:
            logger.debug("%s: cannot be truncated; a torn line is cut when the file is opened again", self.path)


def read_rows(path: str | Path) -> Iterator[dict[str, Any]]:
    """The samples of a file, one at a time; a torn last line is left out.

    Raises:
        InputError: where the file is absent, or a line in its middle is not a sample.
    """
    return (row for _, row in numbered_rows(path))


def numbered_rows(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The samples of a file with the numbers of their lines, from 1; otherwise as :func:`read_rows`."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: " + ("is a folder; give the JSONL files in it" if path.is_dir() else "no such file"))
    return ((number, row) for number, row, _, _ in _lines(path))


def located_rows(path: str | Path, places: Iterable[tuple[int, int]] | None = None) -> Iterator[tuple[int, dict[str, Any], int, int]]:
    """The samples of a file with the number of their line, and offset and length in bytes.

    Args:
        path: a file that :func:`numbered_rows` can read.
        places: offset and length of those to read, as an earlier call gave them; None reads all. Their numbers then count from 1.
    """
    if places is None:
        yield from _lines(Path(path))
        return
    with open(path, "rb") as file:
        for number, (offset, length) in enumerate(places, start=1):
            file.seek(offset)
            yield number, load_json(file.read(length)), offset, length


def row_key(row: dict[str, Any]) -> Key:
    """The place of a sample in canonical order."""
    return row["problem"], row["sample"]


def write_failure(path: Path, error: OSError, *, kept: int) -> InputError:
    """The one line to show when a file cannot be written (a full disk, a quota)."""
    return InputError(
        f"{path}: cannot write ({error.strerror}); its {kept} finished samples are kept: make room and run the same command again to go on"
    )


def read_scored(row: dict[str, Any], where: str) -> dict[str, Any]:
    """Read a scored sample.

    Args:
        row: a line's object; ``problem`` and ``sample`` are known to be there.
        where: file and line, for the error.

    Returns:
        ``benchmark``, ``problem``, ``sample``, ``correct`` (bool), and, None where the line does not say, ``answered`` (whether
        it has an answer), ``length`` (tokens) and ``finish_reason`` ("length" for a response that was cut off).

    Raises:
        InputError: where it has no verdict, or a value whose meaning is not clear.
    """
    value = row.get("correct")
    if value is None:
        raise InputError(f"{where}: its samples are not scored; run eval_scripts/score.py on it first")
    known = isinstance(value, (bool, int, float, str))
    correct = VERDICTS.get(value.strip().lower() if isinstance(value, str) else value) if known else None
    if correct is None:
        raise InputError(f"{where}: 'correct' is {value!r:.60}; write true or false")
    _optional_text(row, "reason", where)
    return {
        "benchmark": _text(row, "benchmark", where),
        "problem": row["problem"],
        "sample": row["sample"],
        "correct": correct,
        "answered": _is_answer(row["answer"]) if "answer" in row else None,
        "length": _length(row, where),
        "finish_reason": _finish_reason(row, where),
    }


def read_generated(row: dict[str, Any], where: str) -> dict[str, Any]:
    """Read a sample that is to be scored: its line, with None for ``length`` and ``finish_reason`` where it has none.

    Raises:
        InputError: where it has no response, benchmark or gold answer, or a value of another type than it should.
    """
    if not is_gold(row.get("gold")):
        raise InputError(f"{where}: no gold answer; 'gold' must be a text, a number, or a list of those that are accepted")
    return {
        **row,
        "benchmark": _text(row, "benchmark", where),
        "response": _text(row, "response", where, empty=True),
        "prompt": _optional_text(row, "prompt", where) or "",
        "length": _length(row, where),
        "finish_reason": _finish_reason(row, where),
    }


def _text(row: dict[str, Any], name: str, where: str, *, empty: bool = False) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not (empty or (value.strip() and value.isprintable())):
        raise InputError(f"{where}: '{name}' is {value!r:.60}; it must be text" + ("" if empty else " on one line"))
    return value


def _optional_text(row: dict[str, Any], name: str, where: str) -> str | None:
    return None if row.get(name) is None else _text(row, name, where, empty=True)


def _finish_reason(row: dict[str, Any], where: str) -> str | None:
    reason = _optional_text(row, "finish_reason", where)
    return CUT_OFF if reason and reason.strip().lower() in (CUT_OFF, *CUT_OFF_ELSEWHERE) else reason


def _is_answer(value: Any) -> bool:
    return value is not None and value == value and str(value).strip() != ""  # NaN is no answer


def _length(row: dict[str, Any], where: str) -> float | None:
    value = row.get("length")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= LONGEST:
        raise InputError(f"{where}: 'length' is {value!r:.60}; it must be a number of tokens")
    return value


def _scan(path: Path) -> tuple[set[Key], int]:
    """The samples of a file, and where the last whole one ends."""
    done: set[Key] = set()
    end = 0
    for _, row, offset, length in _lines(path) if path.is_file() else ():  # else a pipe or a device
        key = row_key(row)
        if key in done:
            raise InputError(f"{path}: problem {key[0]} has sample {key[1]} twice; give --overwrite to start anew")
        done.add(key)
        end = offset + length
    return done, end


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any], int, int]]:
    """Number, sample, offset and length of each line."""
    offset = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    row = load_json(line)
                    whole = all(type(part) is int for part in row_key(row))
                except (ValueError, KeyError, TypeError, RecursionError) as error:
                    if not line.endswith(b"\n"):
                        logger.warning("%s: its last line is torn and left out", path)
                        return
                    what = f"no {error}" if isinstance(error, KeyError) else "no object" if isinstance(error, TypeError) else "no JSON"
                    raise InputError(
                        f"{path}: line {number} is not a sample ({what}); is it a file of another program? A sample has "
                        "'benchmark', 'problem' and 'sample' (whole numbers), 'response' and 'gold', once scored 'correct'"
                    ) from error
                if not whole:
                    raise InputError(f"{path}: line {number}: 'problem' and 'sample' must be whole numbers")
                yield number, row, offset, len(line)
            offset += len(line)
