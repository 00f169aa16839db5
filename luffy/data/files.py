"""Which files a source consists of, and what format each one has."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luffy.data import columnar, text_rows
from luffy.data.splits import SUFFIXES, all_files, split_files
from luffy.errors import InputError

Row = dict[str, Any]


@dataclass(frozen=True)
class Batch:
    """Some consecutive rows of a file.

    Attributes:
        first_row: number of the first row in the file, from 0.
        attempts: reads the rows, with the error in the place of one that is broken; called only where they are needed,
            so that skipping a batch costs little.
        done: share of the file, in (0, 1], that lies before the end of this batch.
    """

    first_row: int
    attempts: Callable[[], list[Row | InputError]]
    done: float

    def rows(self) -> list[Row]:
        """The rows.

        Raises:
            InputError: of the first one that is broken.
        """
        rows = self.attempts()
        for row in rows:
            if isinstance(row, InputError):
                raise row
        return rows


@dataclass(frozen=True)
class Format:
    """How the files of one format are read."""

    columns: Callable[[Path], list[str]]
    batches: Callable[[Path, int, Sequence[str]], Iterator[tuple[int, Callable[[], list[Row | InputError]], float]]]


_COLUMNAR = Format(columnar.columns, columnar.batches)
_TEXT = Format(text_rows.columns, text_rows.batches)
FORMATS = {suffix: _COLUMNAR if suffix in (".parquet", ".arrow") else _TEXT for suffix in SUFFIXES}
_LFS_POINTER = b"version https://git-lfs"


def find_files(path: Path, split: str | None = None, config: str | None = None, **options: bool) -> tuple[Path, ...]:
    """The data files of a local file or folder, sorted by path.

    Args:
        path: a file, which is read whatever its name is, or a folder.
        split: the split of a folder that is read; None reads all of its files.
        config: its configuration; None for the default one.
        options: of :func:`luffy.data.splits.split_files`.

    Raises:
        InputError: where nothing readable is there, the folder has no such split, or a file is empty or not fetched.
    """
    if split is not None and not re.fullmatch(r"[\w.-]+", split):
        raise InputError(
            f"--split {split}: of local files one whole split is read; give its name alone (--max-samples of "
            "prepare_train.py writes a part of it)"
        )
    if not path.exists():
        raise InputError(f"{path} does not exist; give an existing file or folder, or a hub name such as owner/name")
    if path.is_file():
        files = [path]
    else:
        files = all_files(path) if split is None else split_files(path, split, config, **options)
    if not files:
        raise InputError(f"{path} holds no data file; readable are {', '.join(FORMATS)}")
    for file in files:
        if file.suffix.lower() not in FORMATS:
            raise InputError(f"{file} has an unknown format; readable are {', '.join(FORMATS)}")
        if file.stat().st_size == 0:
            raise InputError(f"{file} is empty (0 bytes); remove it or fetch it again")
        with file.open("rb") as opened:
            if opened.read(len(_LFS_POINTER)) == _LFS_POINTER:
                raise InputError(f"{file} is a pointer of Git LFS, not the data; fetch it (git lfs pull)")
    return tuple(files)


def columns_of(path: Path) -> list[str]:
    """Names of a file's columns; for JSON, the keys of its first row.

    Raises:
        InputError: where the file is broken, or a name appears twice.
    """
    names = FORMATS[path.suffix.lower()].columns(path)
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise InputError(f"{path} has the column '{doubled[0]}' {names.count(doubled[0])} times; rename or drop the others")
    return names


def read_batches(path: Path, size: int, columns: Sequence[str]) -> Iterator[Batch]:
    """Read a file in batches of at most ``size`` rows, holding one batch in memory.

    Args:
        path: a file of :data:`FORMATS`.
        size: rows a batch.
        columns: the columns to read; a text format reads them all.

    Raises:
        InputError: where the file is broken, with the row or line; a broken row raises where it is read.
    """
    for first_row, rows, done in FORMATS[path.suffix.lower()].batches(path, size, columns):
        yield Batch(first_row, rows, done)
