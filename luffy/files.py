"""Files: whole under their name or not there, even if the process is killed; held by one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from luffy.errors import InputError

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path in the same folder, and move it to ``path`` once the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give an empty temporary folder beside ``path``, which takes its place once the block ends without an error."""
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in (*temporary.iterdir(), temporary):
            sync(file)
        shutil.rmtree(path, ignore_errors=True)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def link(source: str | Path, target: str | Path) -> None:
    """Give a file a second name by a hard link; a copy where the file system has none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
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


def hold(path: Path, busy: str) -> int:
    """Open a file for reading and writing, made where absent, and keep other processes from holding it.

    Args:
        path: the file.
        busy: the error where another process holds it.

    Returns:
        Its descriptor. The hold ends when that is closed, or with the process, however it ends.

    Raises:
        InputError: where another process holds it, or it cannot be written. On a file system without locks (Lustre without ``flock``)
            nothing is held, and a warning says so.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise InputError(f"{path}: cannot write there: {error.strerror}; give another place") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise InputError(busy) from None
    except OSError as error:
        logger.warning(
            "%s: this file system has no locks (%s), so nothing keeps a second process out: start one alone", path, error.strerror
        )
    return descriptor


def write_json(path: Path, value: Any) -> None:
    """Write a value as an indented JSON file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
