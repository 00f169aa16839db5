"""Every digest, draw and seed: pure functions of what they stand for, the same in whatever process and order they are asked."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

BLOCK_BYTES = 1 << 22


def text_digest(text: str) -> str:
    """16 hexadecimal digits of a text (SHA-256)."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def key_digest(text: str) -> bytes:
    """16 bytes that stand for a text in a table's key column (BLAKE2b); lone surrogates are allowed."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def row_digest(tokens: bytes) -> bytes:
    """16 bytes that stand for a response's token ids (BLAKE2b of their int32 bytes)."""
    return hashlib.blake2b(tokens, digest_size=16).digest()


def file_digest(path: Path) -> str:
    """16 hexadecimal digits of a file's content (SHA-256); read again where its size or time has changed."""
    status = path.stat()
    return _file_digest(path, status.st_size, status.st_mtime_ns)


def sha256(path: Path) -> str:
    """64 hexadecimal digits of a file's content (SHA-256), read anew at each call."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def uniform(*key: str | int) -> float:
    """A number in [0, 1) that depends on the key alone: a draw of the guidance."""
    digest = hashlib.blake2b("|".join(map(str, key)).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def request_seed(seed: int, *place: int) -> int:
    """A 31-bit seed for one request of a training, from the run's seed and the request's place (split, step, row of the data, session).

    With a seed of its own a request draws the same tokens whatever else is in the engine's batch, and whichever worker asks.
    """
    digest = hashlib.sha256(repr((seed, *(int(part) for part in place))).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def draw_seed(seed: int) -> int:
    """A 31-bit seed for a library that draws item i from (its seed + i): near seeds are far apart, so that their items are others."""
    return int.from_bytes(hashlib.sha256(f"draws of {seed}".encode()).digest()[:4], "big") >> 1


def sample_seed(seed: int, problem: str, sample: int) -> int:
    """A 63-bit seed for one sample of an evaluation, from its seed, the problem's key and the sample's number.

    Batch order, resuming and the number of GPUs therefore do not change what is drawn.
    """
    digest = hashlib.sha256(f"{seed}/{problem}/{sample}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@lru_cache
def _file_digest(path: Path, *_: int) -> str:
    return sha256(path)[:16]
