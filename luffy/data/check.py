"""Checks of a data file before a GPU sees it: the layout in milliseconds, or every row."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from luffy.data import columnar, schema
from luffy.data.example import Example
from luffy.data.files import Row, columns_of, find_files, read_batches
from luffy.data.finding import ERROR, Finding, finding
from luffy.data.lengths import require_chat_tokenizer
from luffy.data.row_checks import Limits, RowChecker
from luffy.data.source import Source, SourceSpec, open_source
from luffy.data.system_prompt import KEEP, system_rewriter
from luffy.data.verification import Verify
from luffy.errors import InputError
from luffy.progress import Bar
from luffy.traces import PROMPT, TARGET, TARGET_PROBS

logger = logging.getLogger(__name__)

_ROWS_AT_ONCE = 128


def check_layout(path: str | Path, kind: str = "train") -> None:
    """Check a file without reading its rows: it exists, has rows, is whole, and has the columns with their types.

    Args:
        path: a parquet file.
        kind: "train", "eval" (also for validation files, which need no traces) or "sft".

    Raises:
        InputError: for the first thing that is wrong.
    """
    path = Path(path)
    for found in _layout_findings(path, kind):
        if found.severity == ERROR:
            raise InputError(f"{path}: {found.message}")
        logger.warning("%s: %s", path, found.message)


def check_training_file(
    path: str | Path,
    tokenizer: Any = None,
    max_prompt_length: int | None = None,
    max_response_length: int | None = None,
    limit: int | None = None,
    *,
    kind: str | None = None,
    verify: Verify | None = None,
) -> list[Finding]:
    """Check every row of a data file.

    Args:
        path: a parquet file of the project's columns; a file of another format is checked as ``data/prepare_train.py``
            reads it, whatever its columns are.
        tokenizer: a Hugging Face tokenizer; lengths, EOS and special tokens are checked with it.
        max_prompt_length: tokens that a rendered prompt may have; None leaves it unchecked.
        max_response_length: tokens that (trace + EOS) may have; None leaves it unchecked.
        limit: check this many rows only.
        kind: "train", "eval" or "sft"; None finds it from the columns.
        verify: the project's verifier (:func:`luffy.data.verification.verifier`), which grades each trace and reads
            each gold answer; None leaves both unchecked.

    Returns:
        The findings: of the file (``row`` None) first, then by row. Where the layout is wrong, rows are not read.

    Raises:
        InputError: where the file is missing, empty or broken, or the tokenizer has no EOS or chat template.
    """
    path = Path(path)
    find_files(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; give one of its files")
    findings: list[Finding] = []
    if path.suffix.lower() == ".parquet":
        kind = kind or _kind(path)
        findings += _layout_findings(path, kind)
        if any(found.severity == ERROR for found in findings):
            return findings
        batches = _rows(path, kind, limit)
    else:
        source = _source(path, kind)
        kind = kind or ("eval" if source.layout.trace is None else "train")
        batches = _rows_as_read(source, kind, limit)
        logger.info("%s is no parquet file: its rows are checked as data/prepare_train.py reads them", path)
    if tokenizer is not None:
        require_chat_tokenizer(tokenizer, getattr(tokenizer, "name_or_path", ""))
    limits = Limits(prompt=max_prompt_length, response=max_response_length)
    checker = RowChecker(kind=kind, tokenizer=tokenizer, limits=limits, verify=verify)
    for first, rows in batches:
        findings.extend(checker.check(first, rows))
    findings.extend(checker.finish())
    return sorted(findings, key=lambda found: -1 if found.row is None else found.row)


def require_parquet(path: Path) -> None:
    """Raise InputError where a file is not there or is no parquet file."""
    if not path.is_file() or path.suffix.lower() != ".parquet":
        fault = "is no parquet file" if path.exists() else "does not exist"
        raise InputError(f"{path} {fault}; make one with data/prepare_train.py (of held-out problems: data/prepare_eval.py --source)")


def _kind(path: Path) -> str:
    columns = columns_of(path)
    return "train" if TARGET in columns else "sft" if schema.MESSAGES in columns and PROMPT not in columns else "eval"


def _layout_findings(path: Path, kind: str) -> Iterator[Finding]:
    require_parquet(path)
    columns_of(path)
    actual = columnar.read_schema(path)
    for column in schema.LAYOUTS[kind]:
        position = actual.get_field_index(column.name)
        if position < 0:
            if column.required:
                present = ", ".join(actual.names)
                yield finding(None, "column_missing", column=column.name, meaning=column.meaning, present=present)
            continue
        problem = schema.type_problem(actual.field(position).type, column.type)
        if problem:
            yield finding(None, "column_type", column=column.name, problem=problem, meaning=column.meaning)
    known = {column.name for layout in schema.LAYOUTS.values() for column in layout}
    for name, near in schema.near_names(set(actual.names) - schema.FORMER_NAMES.keys(), known).items():
        yield finding(None, "column_unread", column=name, near=near)
    for name in schema.FORMER_NAMES.keys() & set(actual.names):
        yield finding(None, "column_renamed", column=name, now=schema.FORMER_NAMES[name])
    if columnar.row_count(path) == 0:
        yield finding(None, "no_rows")


def _rows(path: Path, kind: str, limit: int | None) -> Iterator[tuple[int, list[Row | InputError]]]:
    present = columns_of(path)
    columns = [column.name for column in schema.LAYOUTS[kind] if column.name in present]
    total = columnar.row_count(path) if limit is None else min(limit, columnar.row_count(path))
    with Bar(total=total, unit=" rows", desc="check") as bar:
        for batch in read_batches(path, _ROWS_AT_ONCE, columns):
            rows = batch.attempts()[: total - batch.first_row]
            yield batch.first_row, rows
            bar.update(len(rows))
            if batch.first_row + len(rows) >= total:
                return


def _source(path: Path, kind: str | None) -> Source:
    spec, system = SourceSpec(location=str(path)), system_rewriter(KEEP)
    if kind is None:
        try:
            return open_source(spec, system=system)
        except InputError:
            kind = "eval"  # which needs no traces
    return open_source(spec, system=system, traces=kind != "eval")


def _rows_as_read(source: Source, kind: str, limit: int | None) -> Iterator[tuple[int, list[Row | InputError]]]:
    (file,) = source.files
    with Bar(unit=" rows", desc="check") as bar:
        for batch in source.batches(file, _ROWS_AT_ONCE):
            attempts = batch.attempts() if limit is None else batch.attempts()[: limit - batch.first_row]
            rows = [_as_read(source, number, row, kind) for number, row in enumerate(attempts, batch.first_row)]
            yield batch.first_row, rows
            bar.update(len(rows))
            if limit is not None and batch.first_row + len(rows) >= limit:
                return


def _as_read(source: Source, number: int, row: Row | InputError, kind: str) -> Row | InputError:
    try:
        return row if isinstance(row, InputError) else _in_columns(source.layout.read(row, source.files[0].name), number, kind)
    except InputError as error:
        return error


def _in_columns(example: Example, number: int, kind: str) -> Row:
    """The row that a training, evaluation or SFT file would have."""
    traces = [{"role": "assistant", "content": trace.text} for trace in example.traces]
    if kind == "sft":
        return {schema.MESSAGES: [*example.prompt, *traces[:1]]}
    return {
        schema.DATA_SOURCE: example.data_source,
        PROMPT: list(example.prompt),
        TARGET: traces,
        TARGET_PROBS: [trace.probabilities for trace in example.traces],
        schema.ABILITY: example.ability,
        schema.REWARD_MODEL: {"style": "rule", "ground_truth": example.gold, "note": example.no_gold},
        schema.EXTRA_INFO: {"index": number},
    }
