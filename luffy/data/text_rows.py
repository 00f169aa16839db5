"""Rows of JSON (an object a line, or one array of them) and CSV files, in UTF-8."""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from luffy.data.encoded_text import NUMBERS, load_json
from luffy.errors import InputError

MAX_ROW_BYTES = 64 * 2**20
_CHUNK = 1 << 20
_FIRST_ROWS = 100  # whose keys are the columns
_SEPARATORS = re.compile(r"[\s,]*")
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "a UTF-8 byte order mark",
    codecs.BOM_UTF16_LE: "a UTF-16 byte order mark",
    codecs.BOM_UTF16_BE: "a UTF-16 byte order mark",
}

# One row before it is parsed: where it stands, its text, and the file's bytes up to its end.
RawRow = tuple[str, Any, int]


def columns(path: Path) -> list[str]:
    """Header of a CSV file, or the keys of the first JSON rows; those of the first one as often as they are there."""
    if path.suffix.lower() == ".csv":
        _refuse_byte_order_mark(path)
        with _as_utf_8(path), _open_text(path) as file:
            return next(csv.reader(_bounded(path, file)), [])
    names, broken = [], None
    with _as_utf_8(path):
        for where, text, _ in itertools.islice(_raw_rows(path), _FIRST_ROWS):
            try:
                keys = [key for key, _ in _json_pairs(path, where, text)]
            except InputError as error:  # a row that can be left out
                broken = broken or error
            else:
                names += [key for key in keys if key not in names] if names else keys
    if not names:
        raise broken or InputError(f"{path} holds no row; give a file with data")
    return names


def batches(path: Path, size: int, wanted: Sequence[str]) -> Iterator[tuple[int, Callable[[], list[dict[str, Any] | InputError]], float]]:
    """Batches as (first row, function that parses and gives the rows or their errors, share of the file done)."""
    total, first, raw = path.stat().st_size, 0, _raw_rows(path)
    while batch := _take(path, raw, size, first):
        yield (
            first,
            lambda batch=batch: [_attempt(path, where, text) for where, text, _ in batch],
            min(1.0, batch[-1][2] / total),
        )
        first += len(batch)


def _take(path: Path, raw: Iterator[RawRow], size: int, first: int) -> list[RawRow]:
    with _as_utf_8(path, f" after row {first}"):
        return list(itertools.islice(raw, size))


@contextlib.contextmanager
def _as_utf_8(path: Path, where: str = "") -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8{where} ({error.reason}); convert it with iconv") from error


def _raw_rows(path: Path) -> Iterator[RawRow]:
    _refuse_byte_order_mark(path)
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return _csv_rows(path)
    return _array_rows(path) if _first_character(path) == b"[" else _lines(path)


def _lines(path: Path) -> Iterator[RawRow]:
    end = 0
    with path.open("rb") as file:
        for number in itertools.count(1):
            line = file.readline(MAX_ROW_BYTES + 1)
            if not line:
                return
            if len(line) > MAX_ROW_BYTES:
                raise _too_long(path, f"line {number}")
            end += len(line)
            if line.strip():
                yield f"line {number}", line, end


def _array_rows(path: Path) -> Iterator[RawRow]:
    """Elements of a JSON array, parsed one at a time so that the file need not fit into memory."""
    decoder = json.JSONDecoder(object_pairs_hook=_Pairs, **NUMBERS)
    with _open_text(path) as file:
        buffer, position = file.read(_CHUNK), 0
        position = buffer.index("[") + 1
        for number in itertools.count():
            while True:
                position = _SEPARATORS.match(buffer, position).end()
                if buffer.startswith("]", position):
                    if (buffer[position + 1 :] + file.read(_CHUNK)).strip():
                        raise InputError(f"{path} goes on after its array of {number} elements; write one array alone")
                    return
                try:
                    value, position = decoder.raw_decode(buffer, position)
                    break
                except (json.JSONDecodeError, RecursionError) as error:
                    buffer, position = _longer(path, file, buffer[position:], number, error), 0
            yield f"element {number}", value, file.buffer.tell()


def _longer(path: Path, file: io.TextIOBase, rest: str, number: int, error: Exception) -> str:
    # The element may only be cut off. Reading as much again as is there keeps the work linear in the element's length.
    if len(rest) > MAX_ROW_BYTES:
        raise _too_long(path, f"element {number}") from error
    more = file.read(max(_CHUNK, len(rest)))
    if not more:
        raise InputError(f"{path} element {number} is no valid JSON ({str(error)[:120]}); mend or remove it") from error
    return rest + more


def _csv_rows(path: Path) -> Iterator[RawRow]:
    csv.field_size_limit(MAX_ROW_BYTES)
    with _open_text(path) as file:
        reader = csv.reader(_bounded(path, file), strict=True)
        try:
            header = next(reader, [])
            for number, values in enumerate(reader):
                if len(values) != len(header):
                    row = InputError(
                        f"{path} row {number} (line {reader.line_num}) has {len(values)} fields, the header {len(header)}; mend the row"
                    )
                else:
                    row = _Pairs(zip(header, values, strict=True))
                yield f"row {number}", row, file.buffer.tell()
        except csv.Error as error:
            raise InputError(f"{path} line {reader.line_num} is no valid CSV ({error}); mend or remove it") from error


def _bounded(path: Path, file: io.TextIOBase) -> Iterator[str]:
    for number in itertools.count(1):
        line = file.readline(MAX_ROW_BYTES + 1)
        if not line:
            return
        if len(line) > MAX_ROW_BYTES:
            raise _too_long(path, f"line {number}")
        yield line


class _Pairs(list):
    """The pairs of a JSON object, kept apart so that a doubled key is seen."""


def _json_pairs(path: Path, where: str, text: Any) -> _Pairs:
    if isinstance(text, bytes):
        try:
            text = load_json(text, object_pairs_hook=_Pairs)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} {where} is no valid JSON ({str(error)[:120]}); mend or remove it") from error
    if not isinstance(text, _Pairs):
        raise InputError(f"{path} {where} is no object of columns but {type(text).__name__}; write one {{...}} a row")
    return text


def _attempt(path: Path, where: str, text: Any) -> dict[str, Any] | InputError:
    if isinstance(text, InputError):
        return text
    try:
        return _parse(path, where, text)
    except InputError as error:
        return error
    except RecursionError:
        return InputError(f"{path} {where} is nested too deeply; it is no training row: remove or mend it")


def _parse(path: Path, where: str, text: Any) -> dict[str, Any]:
    return {key: _plain(path, where, value) for key, value in _unique(path, where, _json_pairs(path, where, text))}


def _plain(path: Path, where: str, value: Any) -> Any:
    if isinstance(value, _Pairs):
        return {key: _plain(path, where, inner) for key, inner in _unique(path, where, value)}
    return [_plain(path, where, inner) for inner in value] if isinstance(value, list) else value


def _unique(path: Path, where: str, pairs: _Pairs) -> _Pairs:
    names = [key for key, _ in pairs]
    if len(set(names)) < len(names):
        doubled = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{path} {where} has the column '{doubled}' twice; rename or drop one")
    return pairs


def _refuse_byte_order_mark(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(4)
    for mark, name in _BYTE_ORDER_MARKS.items():
        if start.startswith(mark):
            raise InputError(f"{path} starts with {name}; save it as UTF-8 without one (iconv, or your editor's 'UTF-8')")


def _first_character(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_CHUNK).lstrip()[:1]


def _open_text(path: Path) -> io.TextIOWrapper:
    return path.open("r", encoding="utf-8", newline="")


def _too_long(path: Path, where: str) -> InputError:
    return InputError(f"{path} {where} is longer than {MAX_ROW_BYTES // 2**20} MiB; it is no training row: remove or split it")
