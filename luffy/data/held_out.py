"""Part of a training file held out for validation, drawn by problem."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from luffy.data.source import read_questions
from luffy.data.text import prompt_key
from luffy.digests import key_digest
from luffy.errors import InputError
from luffy.files import replacing

_ROWS_AT_ONCE = 512


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """The two files that a training file was split into.

    Attributes:
        train: path of the rest.
        held_out: path of the part that is not trained on.
        train_rows: rows of the rest.
        held_out_rows: rows of the part.
    """

    train: Path
    held_out: Path
    train_rows: int
    held_out_rows: int


def split_held_out(file: Path, folder: Path, *, seed: int, rows: int) -> HeldOut:
    """Split a training file into a part to train on and a part to validate on.

    Whole problems are drawn: rows of one problem text (as rows are merged, :func:`luffy.data.text.prompt_key`) are
    on one side. The draw depends on seed and problem alone, and both files keep columns and order, to the byte for the
    same input.

    Args:
        file: a parquet file as ``data/prepare_train.py`` writes it.
        folder: gets ``NAME_train.parquet`` and ``NAME_held_out.parquet``.
        seed: of the draw.
        rows: how many rows are held out; the last problem drawn may bring more.

    Raises:
        InputError: where one side would be empty.
    """
    keys = [prompt_key(question) for question, _ in read_questions(file)]
    if not 0 < rows < len(keys):
        raise InputError(f"{rows} of the {len(keys)} rows of {file} cannot be held out; give from 1 to {len(keys) - 1}")
    drawn = _draw(Counter(keys), rows, seed)
    held = np.fromiter((key in drawn for key in keys), dtype=bool, count=len(keys))
    if held.all():
        raise InputError(f"{file} has too few problems to hold {held.sum()} of its {len(keys)} rows out; hold out fewer")
    train, held_out = folder / f"{file.stem}_train.parquet", folder / f"{file.stem}_held_out.parquet"
    _write(file, ~held, train)
    _write(file, held, held_out)
    return HeldOut(train=train, held_out=held_out, train_rows=int((~held).sum()), held_out_rows=int(held.sum()))


def _draw(problems: Counter[bytes], wanted: int, seed: int) -> set[bytes]:
    drawn, rows = set(), 0
    for key in sorted(problems, key=lambda key: key_digest(f"{seed} {key.hex()}")):
        if rows >= wanted:
            break
        drawn.add(key)
        rows += problems[key]
    return drawn


def _write(file: Path, chosen: np.ndarray, path: Path) -> None:
    with pq.ParquetFile(file) as source, replacing(path) as temporary:
        with pq.ParquetWriter(temporary, source.schema_arrow, compression="zstd") as writer:
            first = 0
            for batch in source.iter_batches(batch_size=_ROWS_AT_ONCE):
                writer.write_batch(batch.filter(pa.array(chosen[first : first + len(batch)])))
                first += len(batch)
