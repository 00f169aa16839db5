"""Checks of a data file before a GPU sees it: the layout in milliseconds, or every row."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luffy.data import schema
from luffy.data.faults import CODES, ERROR, FAULTS
from luffy.data.files import find_files
from luffy.data.judge import Judge, Judged, Limits, Verify
from luffy.data.lengths import TokenCounter
from luffy.data.rows import Row, columns_of, read_batches, read_schema, row_count
from luffy.data.source import Source, SourceSpec, open_source
from luffy.data.system_prompt import KEEP, system_rewriter
from luffy.errors import InputError
from luffy.models import require_chat
from luffy.progress import Bar
from luffy.traces import PROMPT, TARGET, THINK_CLOSE, THINK_DOUBLED, THINK_MISSING, THINK_OPEN

logger = logging.getLogger(__name__)

_ROWS_AT_ONCE = 128
_SCOPES = {  # that are looked at, by kind of file
    "train": {"row", "prompt", "gold", "labels", "traces", "trace"},
    "eval": {"row", "prompt", "gold", "labels"},
    "sft": {"row", "prompt", "traces", "trace"},
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a data file.

    Attributes:
        row: number of the row, from 0; None where it concerns the file.
        code: of :data:`luffy.data.faults.CODES`.
        message: what was seen, and what to do about it.
        severity: "error" (training would fail or learn something wrong) or "warning".
    """

    row: int | None
    code: str
    message: str
    severity: str

    def __str__(self) -> str:
        """One line: severity, place, code and message."""
        place = "file" if self.row is None else f"row {self.row}"
        return f"{self.severity}: {place}: {self.code}: {self.message}"


def check_layout(path: str | Path, kind: str = "train") -> None:
    """Check a file without reading its rows: it exists, has rows, is whole, and has the columns with their types.

    Args:
        path: a parquet file.
        kind: "train", "eval" (also for validation files, which need no traces) or "sft".

    Raises:
        InputError: for the first thing that is wrong.
    """
    for found in _layout_findings(Path(path), kind):
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
        verify: the project's verifier (:func:`luffy.data.judge.verifier`), which grades each trace and reads each gold
            answer; None leaves both unchecked.

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
        batches, total = _rows(path, kind), row_count(path)
    else:
        source = _source(path, kind)
        kind = kind or ("train" if source.layout.trace else "eval")
        batches, total = _rows_as_read(source, kind), None
        logger.info("%s is no parquet file: its rows are checked as data/prepare_train.py reads them", path)
    if tokenizer is not None:
        require_chat(tokenizer, getattr(tokenizer, "name_or_path", ""))
    checker = _Checker(kind, tokenizer, max_prompt_length, max_response_length, verify)
    done = 0
    with Bar(total=min(filter(None, (limit, total)), default=None), unit=" rows", desc="check") as bar:
        for batch in batches:
            rows = batch if limit is None else batch[: limit - done]
            findings.extend(checker.check(done, rows))
            bar.update(len(rows))
            done += len(rows)
            if done == limit:
                break
    findings.extend(checker.finish())
    return sorted(findings, key=lambda found: -1 if found.row is None else found.row)


def require_parquet(path: Path) -> None:
    """Raise InputError where a file is not there or is no parquet file."""
    if not path.is_file() or path.suffix.lower() != ".parquet":
        fault = "is no parquet file" if path.exists() else "does not exist"
        raise InputError(
            f"{path} {fault}; make one with data/prepare_train.py (held-out problems: data/prepare_eval.py; outputs/tiny: the scripts make it)"
        )


class _Checker:
    """Checks rows in their order, and remembers what duplicates are found by."""

    def __init__(
        self, kind: str, tokenizer: Any, max_prompt_length: int | None, max_response_length: int | None, verify: Verify | None
    ) -> None:
        special = () if tokenizer is None else tokenizer.all_special_tokens
        limits = Limits(
            prompt=max_prompt_length,
            response=max_response_length,
            prompt_opens=True,
            special_tokens=[token for token in special if token not in (THINK_OPEN, THINK_CLOSE)],
            eos=getattr(tokenizer, "eos_token", None) or "",
            prompts={} if kind == "train" else None,
            indices={} if kind == "train" else None,
        )
        asked = (fault for fault in FAULTS if fault.code and fault.scope in _SCOPES[kind])
        counter = None if tokenizer is None else TokenCounter(tokenizer)
        self._judge = Judge(asked, limits, counter, None if kind == "sft" else verify)
        self._untagged: list[Finding] = []
        self._tagged = False

    def check(self, first: int, rows: Sequence[Row | InputError]) -> Iterator[Finding]:
        """Findings in consecutive rows: values by column, or the error of a row that cannot be read."""
        judged = []
        for number, values in enumerate(rows, first):
            if isinstance(values, InputError):
                yield _finding(number, "row_unreadable", reason=values)
            else:
                judged.append(Judged(number, values))
        tags = {(row.number, position) for row in judged for position in row.kept}  # traces with nothing against their tags
        for row, position, fault, seen in self._judge.ask(judged):
            if fault.last:
                row.settle(fault.scope, position)
            if fault.code in (THINK_MISSING, THINK_DOUBLED) or (fault.last and position is not None):
                tags.discard((row.number, position or 0))
            if fault.code == THINK_MISSING:
                self._untagged.append(_finding(row.number, fault.code, **seen))
            else:
                yield _finding(row.number, fault.code, **seen)
        self._tagged |= bool(tags)

    def finish(self) -> list[Finding]:
        """Rows with a trace without think tags, if the file has any trace with them."""
        return self._untagged if self._tagged else []


def _finding(row: int | None, code: str, **seen: object) -> Finding:
    return Finding(row, code, CODES[code].message.format(**seen), CODES[code].severity)


def _kind(path: Path) -> str:
    columns = columns_of(path)
    return "train" if TARGET in columns else "sft" if schema.MESSAGES in columns and PROMPT not in columns else "eval"


def _layout_findings(path: Path, kind: str) -> Iterator[Finding]:
    require_parquet(path)
    names, actual = columns_of(path), read_schema(path)
    for column in schema.KINDS[kind]:
        if column.name not in names and column.required:
            yield _finding(None, "column_missing", column=column.name, meaning=column.meaning, present=", ".join(names))
        if column.name in names and (problem := schema.type_problem(actual.field(column.name).type, column.type)):
            yield _finding(None, "column_type", column=column.name, problem=problem, meaning=column.meaning)
    known = {column.name for layout in schema.KINDS.values() for column in layout}
    for name, near in schema.near_names(set(names) - schema.FORMER_NAMES.keys(), known).items():
        yield _finding(None, "column_unread", column=name, near=near)
    for name in schema.FORMER_NAMES.keys() & set(names):
        yield _finding(None, "column_renamed", column=name, now=schema.FORMER_NAMES[name])
    if row_count(path) == 0:
        yield _finding(None, "no_rows")


def _rows(path: Path, kind: str) -> Iterator[list[Row | InputError]]:
    present = columns_of(path)
    columns = [column.name for column in schema.KINDS[kind] if column.name in present]
    for batch in read_batches(path, _ROWS_AT_ONCE, columns):
        rows = batch.attempts()
        yield [row if isinstance(row, InputError) else _from_messages(row) for row in rows] if kind == "sft" else rows


def _from_messages(row: Row) -> Row:
    messages = row[schema.MESSAGES] or []
    return {PROMPT: messages[:-1], TARGET: messages[-1:]}


def _source(path: Path, kind: str | None) -> Source:
    spec, system = SourceSpec(location=str(path)), system_rewriter(KEEP)
    if kind is None:
        try:
            return open_source(spec, system=system)
        except InputError:
            kind = "eval"  # which needs no traces
    return open_source(spec, system=system, traces=kind != "eval")


def _rows_as_read(source: Source, kind: str) -> Iterator[list[Row | InputError]]:
    """The rows that a training, evaluation or SFT file would have."""
    (file,) = source.files
    for batch in source.batches(file, _ROWS_AT_ONCE):
        rows: list[Row | InputError] = []
        for number, example in source.examples(file, batch):
            row = example if isinstance(example, InputError) else schema.training_row(example, number)
            if kind == "sft" and isinstance(row, dict):
                row = {PROMPT: row[PROMPT], TARGET: row[TARGET][:1]}
            rows.append(row)
        yield rows
