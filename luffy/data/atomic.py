"""Files that are either whole under their name or not there, even if the process is killed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from luffy.errors import InputError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path in the same folder, and move it to ``path`` once the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_new_parquet(output: Path, inputs: Iterable[Path]) -> None:
    """Refuse an output whose name says another format, or that is one of the files it is made from.

    Raises:
        InputError: for such an output.
    """
    if output.suffix.lower() != ".parquet":
        raise InputError(f"{output} will be a parquet file; give it a name that ends with .parquet")
    if output.exists() and any(each.exists() and output.samefile(each) for each in inputs):
        raise InputError(f"{output} is what is read, and would be lost; give the output another name")
