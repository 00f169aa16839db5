"""Chunks: compressed pieces of a page's data, each unpacked by the browser when it is opened (``page/data.js`` reads them).

A chunk is gzip of: the length of a JSON header (uint32), the header, then arrays, each at a multiple of 8 bytes, little-endian. The
header's ``arrays`` says for each of them its type, where it begins (bytes after the header) and its length.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from luffy.record import VALUES

COMPRESSION = 4  # of gzip: random numbers hardly shrink further, and a large run has millions
TYPES = {"u1": np.uint8, "u4": np.uint32, "f4": np.float32, "f8": np.float64}


class Strings:
    """A table of distinct texts: an index in the place of each."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._places: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        """The index of a text."""
        place = self._places.setdefault(text, len(self.texts))
        if place == len(self.texts):
            self.texts.append(text)
        return place


def pack(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Make a chunk.

    Args:
        header: JSON values; numbers that are not finite become null.
        arrays: one-dimensional, of a type of :data:`TYPES`.
    """
    places, body, offset = {}, [], 0
    for name, array in arrays.items():
        kind = next(each for each, known in TYPES.items() if array.dtype == known)
        data = array.astype(array.dtype.newbyteorder("<")).tobytes()
        places[name] = [kind, offset, len(array)]
        padding = -len(data) % 8
        body.append(data + bytes(padding))
        offset += len(data) + padding
    text = json.dumps(_finite({**header, "arrays": places}), separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 4) % 8)
    return gzip.compress(b"".join([len(text).to_bytes(4, "little"), text, *body]), COMPRESSION, mtime=0)


def in_base64(chunk: bytes) -> str:
    """A chunk as text without any sign that means something in markup."""
    return base64.b64encode(chunk).decode("ascii")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(name): _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value


def group_chunk(group: pa.Table) -> bytes:
    """The chunk of a recorded group, from its table (:func:`luffy.record.read_group`); what was not computed is NaN."""
    tokens = group["tokens"].combine_chunks()
    dictionary = tokens.flatten().dictionary_encode()
    lengths = tokens.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
    facts = ("source", "trace", "reason", "answer", "reward", "advantage")
    header = {
        "prompt": group["prompt"][0].as_py(),
        "rows": [dict(zip(facts, row, strict=True)) for row in zip(*(group[name].to_pylist() for name in facts), strict=True)],
        "starts": [0, *np.cumsum(lengths).tolist()],
        "vocabulary": dictionary.dictionary.to_pylist(),
    }
    arrays = {
        "token": dictionary.indices.to_numpy(zero_copy_only=False).astype(np.uint32),
        "forced": _flat(group["forced"], lengths, False).astype(np.uint8),
        **{name: _flat(group[name], lengths, np.nan).astype(np.float32) for name in VALUES},
    }
    return pack(header, arrays)


def _flat(column: pa.ChunkedArray, lengths: Sequence[int], absent: Any) -> np.ndarray:
    """All entries of a column of lists; a null list has as many absent ones as its response has tokens."""
    lists = column.combine_chunks()
    if not lists.null_count:
        return lists.flatten().to_numpy(zero_copy_only=False)
    rows = (row.values.to_numpy(zero_copy_only=False) if row.is_valid else None for row in lists)
    return np.concatenate([np.full(length, absent) if row is None else row for row, length in zip(rows, lengths, strict=True)])
