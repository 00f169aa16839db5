"""A JSONL file of samples that grows line by line and survives whatever stops its writer.

A line is one sample and is on its way to the disk before the next begins. A writer that was killed leaves at most one
torn line at the end, which is cut off when the file is opened again; a whole last line that only lacks its end counts. When all samples are there the file is rewritten
in canonical order, in one step, so that the same run gives the same bytes whatever happened on the way.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from luffy.data.atomic import replacing
from luffy.data.encoded_text import load_json
from luffy.errors import InputError

Key = tuple[int, int]  # (problem, sample)

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
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise InputError(f"{self.path}: cannot write there ({error.strerror})") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise InputError(f"{self.path}: another run is writing this file; wait for it, or give another") from error
        try:
            self.done, self._size = _scan(self.path)
        except InputError:
            os.close(self._descriptor)
            raise
        self._cut()
        self._end_last_line()

    def __enter__(self) -> SampleLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._descriptor)

    def append(self, row: dict[str, Any]) -> None:
        """Add one sample, whole or not at all.

        Raises:
            InputError: where the disk is full; the file then ends with the last whole line.
        """
        assert row_key(row) not in self.done, f"sample {row_key(row)} twice"
        line = json.dumps(row, ensure_ascii=False).encode("utf-8", errors="backslashreplace") + b"\n"
        try:
            written = 0
            while written < len(line):
                written += os.pwrite(self._descriptor, line[written:], self._size + written)
        except OSError as error:
            self._cut()
            raise write_failure(self.path, error, kept=len(self.done)) from error
        self._size += len(line)
        self.done.add(row_key(row))

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

    def _end_last_line(self) -> None:
        if self._size and os.pread(self._descriptor, 1, self._size - 1) != b"\n":
            try:
                self._size += os.pwrite(self._descriptor, b"\n", self._size)
            except OSError as error:
                raise write_failure(self.path, error, kept=len(self.done)) from error

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


def row_key(row: dict[str, Any]) -> Key:
    """The place of a sample in canonical order."""
    return row["problem"], row["sample"]


def write_failure(path: Path, error: OSError, *, kept: int) -> InputError:
    """The one line to show when a file cannot be written (a full disk, a quota)."""
    return InputError(
        f"{path}: cannot write ({error.strerror}); its {kept} finished samples are kept: make room and run the same command again to go on"
    )


def _scan(path: Path) -> tuple[set[Key], int]:
    done: set[Key] = set()
    end = 0
    if not path.is_file():  # a pipe or a device
        return done, end
    for _, row, offset, length in _lines(path):
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
