"""The rows of one file, in batches: Parquet, Arrow, CSV, and JSON as an object a line or one array of them; text in UTF-8."""

from __future__ import annotations

import codecs
import contextlib
import csv
import functools
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from luffy.data.text import NUMBERS, load_json
from luffy.errors import InputError

MAX_ROW_BYTES = 64 * 2**20
_CHUNK = 1 << 20
_FIRST_ROWS = 100  # whose keys are the columns of a JSON file
_SEPARATORS = re.compile(r"[\s,]*")
_BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "UTF-8", codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}
_ARROW_FILE_MAGIC = b"ARROW1"

Row = dict[str, Any]
# What is known of a row of text before it is parsed: its place, its text or what it is already, and the bytes up to its end.
RawRow = tuple[str, bytes | Row | InputError, int]


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
        rows = []
        for row in self.attempts():
            if isinstance(row, InputError):
                raise row
            rows.append(row)
        return rows


def columns_of(path: Path) -> list[str]:
    """Names of a file's columns; for JSON, the keys of its first rows.

    Raises:
        InputError: where the file is broken, or a name appears twice.
    """
    names = list(read_schema(path).names) if is_columnar(path) else _text_columns(path)
    doubled = sorted(name for name, count in Counter(names).items() if count > 1)
    if doubled:
        raise InputError(f"{path} has the column '{doubled[0]}' {names.count(doubled[0])} times; rename or drop the others")
    return names


def read_batches(path: Path, size: int, columns: Sequence[str]) -> Iterator[Batch]:
    """Read a file in batches of at most ``size`` rows, holding one batch in memory.

    Args:
        path: a file of :data:`luffy.data.files.SUFFIXES`.
        size: rows a batch.
        columns: the columns to read; a text format reads them all.

    Raises:
        InputError: where the file is broken, with the row or line; a broken row raises where it is read.
    """
    return _columnar_batches(path, size, list(columns)) if is_columnar(path) else _text_batches(path, size)


def is_columnar(path: Path) -> bool:
    """Whether a file's columns have types: Parquet and Arrow."""
    return path.suffix.lower() in (".parquet", ".arrow")


def read_schema(path: Path) -> pa.Schema:
    """The Arrow schema of a Parquet or Arrow file.

    Raises:
        InputError: where the file is not what its name says, or is cut off.
    """
    with _whole(path):
        if path.suffix.lower() == ".parquet":
            return pq.read_schema(path)
        with _open_arrow(path) as reader:
            return reader.schema


def row_count(path: Path) -> int:
    """Rows of a parquet file, from its footer."""
    with _whole(path):
        return pq.read_metadata(path).num_rows


def _columnar_batches(path: Path, size: int, columns: list[str]) -> Iterator[Batch]:
    read = _parquet_batches if path.suffix.lower() == ".parquet" else _arrow_batches
    source, first = read(path, size, columns), 0
    while True:
        with _whole(path, f" after row {first}" if first else ""):
            batch, total = next(source, (None, 0))
        if batch is None:
            return
        yield Batch(first, functools.partial(_plain_rows, path, first, _as_written(batch)), (first + len(batch)) / total)
        first += len(batch)


def _parquet_batches(path: Path, size: int, columns: list[str]) -> Iterator[tuple[pa.RecordBatch, int]]:
    # Buffered and not pre-fetched: a file that is one huge row group is still read page by page.
    with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
        for batch in file.iter_batches(batch_size=size, columns=columns, use_threads=False):
            yield batch, file.metadata.num_rows


def _arrow_batches(path: Path, size: int, columns: list[str]) -> Iterator[tuple[pa.RecordBatch, int]]:
    with _open_arrow(path) as reader:
        total = sum(map(len, _record_batches(reader)))
    with _open_arrow(path) as reader:
        for batch in _record_batches(reader):
            for start in range(0, len(batch), size):
                yield batch.select(columns).slice(start, size), total


def _open_arrow(path: Path) -> Any:
    # `datasets` writes the stream format, `pyarrow.feather` and others the file format; both are called .arrow.
    source = pa.memory_map(str(path))
    is_file = source.read(len(_ARROW_FILE_MAGIC)) == _ARROW_FILE_MAGIC
    source.seek(0)
    return pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)


def _record_batches(reader: Any) -> Iterator[pa.RecordBatch]:
    return map(reader.get_batch, range(reader.num_record_batches)) if hasattr(reader, "get_batch") else iter(reader)


def _as_written(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with 0.1 for a 32-bit 0.1, which as a 64-bit number is 0.10000000149."""
    for i, field in enumerate(batch.schema):
        if pa.types.is_float16(field.type) or pa.types.is_float32(field.type):
            batch = batch.set_column(i, field.name, batch.column(i).cast(pa.string()).cast(pa.float64()))
    return batch


def _plain_rows(path: Path, first: int, batch: pa.RecordBatch) -> list[Row | InputError]:
    try:
        return batch.to_pylist(maps_as_pydicts="strict")
    except (pa.ArrowException, UnicodeDecodeError, KeyError) as error:
        if len(batch) > 1:
            return [row for i in range(len(batch)) for row in _plain_rows(path, first + i, batch.slice(i, 1))]
        return [InputError(f"{path} row {first} cannot be read ({str(error)[:120]}); mend its text")]


@contextlib.contextmanager
def _whole(path: Path, where: str = "") -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0][:200]
        raise InputError(f"{path} is no whole {path.suffix.lstrip('.')} file{where} ({reason}); fetch or write it again") from error


def _text_columns(path: Path) -> list[str]:
    with _as_utf_8(path):
        if path.suffix.lower() == ".csv":
            with _open(path) as file:
                return next(csv.reader(_lines(path, _decoded(file))), [])
        first = [_parsed(path, where, raw) for where, raw, _ in itertools.islice(_raw_rows(path), _FIRST_ROWS)]
    names = dict.fromkeys(key for row in first if not isinstance(row, InputError) for key in row)
    if not names:  # a broken row can be left out, but not where there is no other
        raise next((row for row in first if isinstance(row, InputError)), InputError(f"{path} holds no row; give a file with data"))
    return list(names)


def _text_batches(path: Path, size: int) -> Iterator[Batch]:
    total, first, raw = path.stat().st_size, 0, _raw_rows(path)
    while True:
        with _as_utf_8(path, f" after row {first}"):
            batch = list(itertools.islice(raw, size))
        if not batch:
            return
        yield Batch(first, functools.partial(_parsed_rows, path, batch), min(1.0, batch[-1][2] / total))
        first += len(batch)


def _parsed_rows(path: Path, batch: list[RawRow]) -> list[Row | InputError]:
    return [_parsed(path, where, raw) for where, raw, _ in batch]


def _parsed(path: Path, where: str, raw: bytes | Row | InputError) -> Row | InputError:
    if not isinstance(raw, bytes):
        return raw
    objects = _Objects()
    try:
        value = load_json(raw, object_pairs_hook=objects)
    except (ValueError, RecursionError) as error:
        return InputError(f"{path} {where} is no valid JSON ({str(error)[:120]}); mend or remove it")
    return objects.row(path, where, value)


class _Objects:
    """Makes the objects of one JSON row, and remembers a key that one of them has twice."""

    def __init__(self) -> None:
        self.twice = ""

    def __call__(self, pairs: list[tuple[str, Any]]) -> Row:
        made = dict(pairs)
        if len(made) < len(pairs):
            self.twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        return made

    def row(self, path: Path, where: str, value: Any) -> Row | InputError:
        """The row that was parsed, or what is wrong with it."""
        if self.twice:
            return InputError(f"{path} {where} has the column '{self.twice}' twice; rename or drop one")
        if not isinstance(value, dict):
            return InputError(f"{path} {where} is no object of columns but {type(value).__name__}; write one {{...}} a row")
        return value


def _raw_rows(path: Path) -> Iterator[RawRow]:
    if path.suffix.lower() == ".csv":
        return _csv_rows(path)
    with path.open("rb") as file:
        is_array = file.read(_CHUNK).lstrip()[:1] == b"["
    return _array_rows(path) if is_array else _json_lines(path)


def _json_lines(path: Path) -> Iterator[RawRow]:
    with _open(path) as file:
        for number, line in enumerate(_lines(path, file), 1):
            if line.strip():
                yield f"line {number}", line, file.tell()


def _array_rows(path: Path) -> Iterator[RawRow]:
    """Elements of a JSON array, parsed one at a time so that the file need not fit into memory.

    Not by ijson 3.6 (yajl2_c): it reads half a character as "??", refuses the NaN that Python writes, gives the last of two
    equal keys, and an integer of 5000 digits ends the process (segmentation fault).
    """
    with _open(path) as binary:
        file = _decoded(binary)
        buffer, position = file.read(_CHUNK), 0
        position = buffer.index("[") + 1
        for number in itertools.count():
            while True:
                position, objects = _SEPARATORS.match(buffer, position).end(), _Objects()  # type: ignore[union-attr]
                if buffer.startswith("]", position):
                    if (buffer[position + 1 :] + file.read(_CHUNK)).strip():
                        raise InputError(f"{path} goes on after its array of {number} elements; write one array alone")
                    return
                try:
                    value, position = json.JSONDecoder(object_pairs_hook=objects, **NUMBERS).raw_decode(buffer, position)
                    break
                except (json.JSONDecodeError, RecursionError) as error:
                    buffer, position = _longer(path, file, buffer[position:], number, error), 0
            yield f"element {number}", objects.row(path, f"element {number}", value), binary.tell()


def _longer(path: Path, file: io.TextIOWrapper, rest: str, number: int, error: Exception) -> str:
    # The element may only be cut off. Reading as much again as is there keeps the work linear in the element's length.
    if len(rest) > MAX_ROW_BYTES:
        raise _too_long(path, f"element {number}") from error
    more = file.read(max(_CHUNK, len(rest)))
    if not more:
        raise InputError(f"{path} element {number} is no valid JSON ({str(error)[:120]}); mend or remove it") from error
    return rest + more


def _csv_rows(path: Path) -> Iterator[RawRow]:
    csv.field_size_limit(MAX_ROW_BYTES)
    with _open(path) as binary:
        reader = csv.reader(_lines(path, _decoded(binary)), strict=True)
        try:
            header = next(reader, [])
            for number, values in enumerate(reader):
                row: Row | InputError = dict(zip(header, values, strict=False))
                if len(values) != len(header):
                    row = InputError(
                        f"{path} row {number} (line {reader.line_num}) has {len(values)} fields, the header {len(header)}; mend the row"
                    )
                yield f"row {number}", row, binary.tell()
        except csv.Error as error:
            raise InputError(f"{path} line {reader.line_num} is no valid CSV ({error}); mend or remove it") from error


def _lines(path: Path, file: IO[Any]) -> Iterator[Any]:
    for number in itertools.count(1):
        line = file.readline(MAX_ROW_BYTES + 1)
        if not line:
            return
        if len(line) > MAX_ROW_BYTES:
            raise _too_long(path, f"line {number}")
        yield line


def _open(path: Path) -> io.BufferedReader:
    file = path.open("rb")
    for mark, name in _BYTE_ORDER_MARKS.items():
        if file.peek(len(mark)).startswith(mark):
            file.close()
            raise InputError(f"{path} starts with a {name} byte order mark; save it as UTF-8 without one (iconv, or your editor's 'UTF-8')")
    return file


def _decoded(file: io.BufferedReader) -> io.TextIOWrapper:
    return io.TextIOWrapper(file, encoding="utf-8", newline="")


@contextlib.contextmanager
def _as_utf_8(path: Path, where: str = "") -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8{where} ({error.reason}); convert it with iconv") from error


def _too_long(path: Path, where: str) -> InputError:
    return InputError(f"{path} {where} is longer than {MAX_ROW_BYTES // 2**20} MiB; it is no training row: remove or split it")
