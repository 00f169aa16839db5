"""Digests by which files are known again."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

BLOCK_BYTES = 1 << 22


def file_digest(path: Path) -> str:
    """16 hexadecimal digits of the file's content (SHA-256)."""
    status = path.stat()
    return _digest(path, status.st_size, status.st_mtime_ns)


@lru_cache
def _digest(path: Path, *_: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()[:16]
