"""Rows on disk: token ids and log-probabilities, with an index in memory.

A row's numbers are in a *segment*, a file that only grows: its T token ids (int32), then its T log-probabilities (float32), so 8
bytes a token. In memory there are some two hundred bytes a row, whatever its length. A segment that a checkpoint shares, by a
hard link, is closed: what is added later goes into the next one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from luffy.digests import row_digest
from luffy.errors import InputError
from luffy.files import link, replacing_folder

INDEX = "index.npy"
_TOKEN_BYTES = 8
_FIELDS: np.dtype = np.dtype([("id", "<i8"), ("key", "<i8"), ("segment", "<i4"), ("offset", "<i8"), ("length", "<i4"), ("digest", "V16")])


@dataclass(frozen=True, kw_only=True)
class Row:
    """A response as it was kept.

    Attributes:
        tokens: int32 [T], its token ids, with the end-of-sequence token; empty for a queued prompt.
        log_probs: float32 [T], their log-probabilities under the policy that was current then.
    """

    tokens: np.ndarray
    log_probs: np.ndarray


class _Place(NamedTuple):
    key: int
    segment: int
    offset: int
    length: int
    digest: bytes


class RowStore:
    """Rows by prompt. Ids of rows grow and are never used again."""

    def __init__(self, folder: Path, *, capacity: int | None = None) -> None:
        """An empty store.

        Args:
            folder: where its segments are; what is there is removed.
            capacity: most rows; the oldest leave first. None: no bound.
        """
        self._folder, self._capacity = folder, capacity
        self._places: dict[int, _Place] = {}  # oldest first
        self._of_key: dict[int, list[int]] = {}
        self._next_id, self._segment, self._size = 0, 0, 0
        self._writer, self._readers = -1, dict[int, int]()
        self._clear()

    def __len__(self) -> int:
        return len(self._places)

    @property
    def keys(self) -> list[int]:
        """Prompts with a row, in order of their number."""
        return sorted(self._of_key)

    def ids(self, key: int) -> list[int]:
        """Rows of a prompt, oldest first."""
        return list(self._of_key.get(key, ()))

    def newest(self, number: int) -> list[int]:
        """The newest rows, newest first."""
        ids = iter(reversed(self._places))
        return [row for row, _ in zip(ids, range(number), strict=False)]

    def key_of(self, row: int) -> int:
        """The prompt of a row."""
        return self._places[row].key

    def add(self, key: int, tokens: np.ndarray, log_probs: np.ndarray) -> bool:
        """Keep a row, unless its prompt has one of the same tokens.

        Args:
            key: number of the prompt.
            tokens: int [T].
            log_probs: float [T].

        Returns:
            Whether it is new.

        Raises:
            ValueError: not one log-probability for each token.
        """
        if tokens.shape != log_probs.shape or tokens.ndim != 1:
            raise ValueError(f"{tokens.shape} tokens with {log_probs.shape} log-probabilities; both must be [T]")
        content = tokens.astype("<i4").tobytes()
        digest = row_digest(content)
        if any(self._places[row].digest == digest for row in self._of_key.get(key, ())):
            return False
        self._write(content + log_probs.astype("<f4").tobytes())
        place = _Place(key, self._segment, self._size - len(tokens) * _TOKEN_BYTES, len(tokens), digest)
        self._places[self._next_id] = place
        self._of_key.setdefault(key, []).append(self._next_id)
        self._next_id += 1
        while self._capacity is not None and len(self) > self._capacity:
            self._forget(next(iter(self._places)))
        return True

    def remove(self, key: int) -> int:
        """Forget a prompt's rows, and say how many there were."""
        rows = self.ids(key)
        for row in rows:
            self._forget(row)
        return len(rows)

    def read(self, row: int) -> Row:
        """A row's numbers."""
        place = self._places[row]
        content = os.pread(self._reader(place.segment), place.length * _TOKEN_BYTES, place.offset)
        half = len(content) // 2
        return Row(tokens=np.frombuffer(content[:half], "<i4"), log_probs=np.frombuffer(content[half:], "<f4"))

    def save(self, folder: Path) -> None:
        """Write a copy that later changes do not touch, whole or not at all; segments are shared by hard links where they can be."""
        self._compact()
        self._close()
        with replacing_folder(folder) as new:
            index = np.array([(row, *place) for row, place in self._places.items()], dtype=_FIELDS)
            np.save(new / INDEX, index)
            for segment in sorted(set(index["segment"].tolist())):
                link(self._file(segment), new / self._file(segment).name)

    def load(self, folder: Path) -> None:
        """Become the copy in ``folder``, which stays as it is.

        Raises:
            InputError: a copy that is not whole.
        """
        self._clear()
        try:
            index = np.load(folder / INDEX)
            for segment in sorted(set(index["segment"].tolist())):
                link(folder / self._file(segment).name, self._file(segment))
        except (OSError, ValueError) as error:
            raise InputError(f"{folder} is not a whole store ({error}): go on from another checkpoint") from error
        for row, *place in index.tolist():
            self._places[row] = _Place(*place)
            self._of_key.setdefault(self._places[row].key, []).append(row)
        for segment in set(index["segment"].tolist()):
            if self._file(segment).stat().st_size < max(each.offset + each.length * _TOKEN_BYTES for each in self._in(segment)):
                raise InputError(f"{folder}/{self._file(segment).name} is cut: go on from another checkpoint")
        self._next_id = max(self._places, default=-1) + 1
        self._segment = max(set(index["segment"].tolist()), default=-1) + 1

    def close(self) -> None:
        """Close its files."""
        self._close()
        for reader in self._readers.values():
            os.close(reader)
        self._readers.clear()

    def _clear(self) -> None:
        self.close()
        self._places.clear()
        self._of_key.clear()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)

    def _in(self, segment: int) -> Iterator[_Place]:
        return (place for place in self._places.values() if place.segment == segment)

    def _forget(self, row: int) -> None:
        key = self._places.pop(row).key
        self._of_key[key].remove(row)
        if not self._of_key[key]:
            del self._of_key[key]

    def _file(self, segment: int) -> Path:
        return self._folder / f"rows-{segment:06d}.bin"

    def _write(self, content: bytes) -> None:
        if self._writer < 0:
            self._writer = os.open(self._file(self._segment), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        self._size += len(content)
        while content:
            content = content[os.write(self._writer, content) :]

    def _reader(self, segment: int) -> int:
        if segment not in self._readers:
            self._readers[segment] = os.open(self._file(segment), os.O_RDONLY)
        return self._readers[segment]

    def _close(self) -> None:
        """End the segment that grows; the next row begins another."""
        if self._writer >= 0:
            os.fsync(self._writer)
            os.close(self._writer)
            self._writer, self._segment, self._size = -1, self._segment + 1, 0

    def _compact(self) -> None:
        """Write the rows anew where less than half of the segments' bytes are theirs; remove segments without rows."""
        used = dict.fromkeys(self._segments_there(), 0)
        for place in self._places.values():
            used[place.segment] = used.get(place.segment, 0) + place.length * _TOKEN_BYTES
        there = sum(self._file(segment).stat().st_size for segment in used if self._file(segment).exists())
        if there > 2 * sum(used.values()):
            self._close()
            for row, place in list(self._places.items()):
                kept = self.read(row)
                self._write(kept.tokens.tobytes() + kept.log_probs.tobytes())
                offset = self._size - place.length * _TOKEN_BYTES
                self._places[row] = place._replace(segment=self._segment, offset=offset)
        needed = {place.segment for place in self._places.values()} | {self._segment}
        for segment in set(self._segments_there()) - needed:
            if segment in self._readers:
                os.close(self._readers.pop(segment))
            self._file(segment).unlink()

    def _segments_there(self) -> list[int]:
        return [int(file.stem.removeprefix("rows-")) for file in self._folder.glob("rows-*.bin")]
