"""Rows of Parquet and Arrow files."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from luffy.errors import InputError

_ARROW_FILE_MAGIC = b"ARROW1"


def columns(path: Path) -> list[str]:
    """Names of the file's columns, as often as they are there."""
    return list(read_schema(path).names)


def read_schema(path: Path) -> pa.Schema:
    """The file's Arrow schema.

    Raises:
        InputError: where the file is not what its name says, or is cut off.
    """
    with _as_input_error(path):
        if path.suffix.lower() == ".parquet":
            return pq.read_schema(path)
        with _open_arrow(path) as reader:
            return reader.schema


def row_count(path: Path) -> int:
    """Rows of a parquet file, from its footer."""
    with _as_input_error(path):
        return pq.read_metadata(path).num_rows


def batches(path: Path, size: int, wanted: Sequence[str]) -> Iterator[tuple[int, Callable[[], list[dict[str, Any] | InputError]], float]]:
    """Batches as (first row, function that gives the rows or their errors, share of the file done)."""
    source = _parquet_batches(path, size, wanted) if path.suffix.lower() == ".parquet" else _arrow_batches(path, size, wanted)
    first = 0
    while True:
        with _as_input_error(path, first):
            batch, total = next(source, (None, 0))
        if batch is None:
            return
        yield first, functools.partial(_rows, path, first, _as_written(batch)), (first + len(batch)) / total
        first += len(batch)


def _as_written(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with 0.1 for a 32-bit 0.1, which as a 64-bit number is 0.10000000149."""
    for i, field in enumerate(batch.schema):
        if pa.types.is_float16(field.type) or pa.types.is_float32(field.type):
            batch = batch.set_column(i, field.name, batch.column(i).cast(pa.string()).cast(pa.float64()))
    return batch


def _rows(path: Path, first: int, batch: pa.RecordBatch) -> list[dict[str, Any] | InputError]:
    try:
        return batch.to_pylist(maps_as_pydicts="strict")
    except (pa.ArrowException, UnicodeDecodeError, KeyError):
        return [_row(path, first + i, batch.slice(i, 1)) for i in range(len(batch))]


def _row(path: Path, number: int, batch: pa.RecordBatch) -> dict[str, Any] | InputError:
    try:
        return batch.to_pylist(maps_as_pydicts="strict")[0]
    except (pa.ArrowException, UnicodeDecodeError, KeyError) as error:
        return InputError(f"{path} row {number} cannot be read ({str(error)[:120]}); mend its text")


def _parquet_batches(path: Path, size: int, wanted: Sequence[str]) -> Iterator[tuple[pa.RecordBatch, int]]:
    # Buffered and not pre-fetched: a file that is one huge row group is still read page by page.
    with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
        for batch in file.iter_batches(batch_size=size, columns=list(wanted), use_threads=False):
            yield batch, file.metadata.num_rows


def _arrow_batches(path: Path, size: int, wanted: Sequence[str]) -> Iterator[tuple[pa.RecordBatch, int]]:
    with _open_arrow(path) as reader:
        total = sum(len(batch) for batch in _record_batches(reader))
    with _open_arrow(path) as reader:
        for batch in _record_batches(reader):
            batch = batch.select(list(wanted))
            for start in range(0, len(batch), size):
                yield batch.slice(start, size), total


def _record_batches(reader: Any) -> Iterator[pa.RecordBatch]:
    if isinstance(reader, pa.ipc.RecordBatchFileReader):
        yield from (reader.get_batch(i) for i in range(reader.num_record_batches))
    else:
        yield from reader


def _open_arrow(path: Path) -> Any:
    # `datasets` writes the stream format, `pyarrow.feather` and others the file format; both are called .arrow.
    source = pa.memory_map(str(path))
    is_file = source.read(len(_ARROW_FILE_MAGIC)) == _ARROW_FILE_MAGIC
    source.seek(0)
    return pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)


@contextlib.contextmanager
def _as_input_error(path: Path, row: int | None = None) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        where = "" if not row else f" after row {row}"
        reason = str(error).splitlines()[0][:200]
        kind = path.suffix.lstrip(".")
        raise InputError(f"{path} is no whole {kind} file{where} ({reason}); fetch or write it again") from error
