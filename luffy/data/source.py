"""One source of a data set: its files, checked to share a layout, and its rows as examples."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luffy import hub
from luffy.data import schema
from luffy.data.files import find_files
from luffy.data.layout import Layout, SourceSpec, find_layout
from luffy.data.rows import Batch, columns_of, is_columnar, read_batches, read_schema
from luffy.data.schema import Example
from luffy.data.system_prompt import KEEP, SystemRewriter, system_rewriter
from luffy.data.text import prompt_key
from luffy.errors import InputError

logger = logging.getLogger(__name__)

_SEPARATE = "give files of different layouts as separate sources"
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Source:
    """A source whose files were found and whose layout is known; ``hub_name`` where it was fetched from the Hub."""

    files: tuple[Path, ...]
    layout: Layout
    hub_name: str | None = None

    def batches(self, file: Path, size: int) -> Iterator[Batch]:
        """The rows of one of its files."""
        return read_batches(file, size, self.layout.columns)

    def examples(self, file: Path, batch: Batch) -> Iterator[tuple[int, Example | InputError]]:
        """What each row of a batch says, with its number; the error in the place of one that cannot be read."""
        for number, row in enumerate(batch.attempts(), batch.first_row):
            try:
                yield number, row if isinstance(row, InputError) else self.layout.read(row, f"{file} row {number}")
            except InputError as error:
                yield number, error


def open_source(spec: SourceSpec, *, system: SystemRewriter, traces: bool = True, answers: bool = True) -> Source:
    """Find a source's files and layout, fetching it from the hub where it is no local path.

    Args:
        spec: what the user says about it.
        system: rewrites the prompts' system message.
        traces: whether traces are read; without them no column of traces is needed.
        answers: whether there must be gold answers.

    Raises:
        InputError: where there are no files, a file is broken, or the files do not share the needed columns.
    """
    if not spec.location.strip():
        raise InputError("a source has no name; give a file, a folder or a hub name")
    local = Path(spec.location).expanduser()
    hub_name = spec.location if not local.exists() and hub.is_hub_name(spec.location) else None
    if hub_name:
        files = hub.fetch_data(spec.location, config=spec.config, split=spec.split)
    else:
        files = find_files(local, spec.split, spec.config)
    main = _main_format(files)
    layout = find_layout(columns_of(main[0]), spec, system=system, traces=traces, where=str(main[0]), answers=answers)
    stray = [file for file in files if file not in main and not _has_columns(file, layout.columns)]
    if stray:
        logger.warning("left out: %s (no columns of the other files)", ", ".join(map(str, stray)))
    files = tuple(file for file in files if file not in stray)
    _require_one_schema(files, layout.columns)
    return Source(files, layout, hub_name)


def read_questions(path: Path) -> Iterator[tuple[str, str]]:
    """Read (question, data_source) of each row of a file or folder; a file without that column gives its own name.

    Raises:
        InputError: where it is missing or broken, or has no prompts.
    """
    for file in find_files(path):
        columns, spec = columns_of(file), SourceSpec(location=str(file))
        source = Source((file,), find_layout(columns, spec, system=system_rewriter(KEEP), traces=False, where=str(file)))
        for batch in source.batches(file, _ROWS_AT_ONCE):
            for _, example in source.examples(file, batch):
                if isinstance(example, InputError):
                    raise example
                yield example.question, example.data_source if schema.DATA_SOURCE in columns else file.stem


def read_prompt_keys(path: Path) -> frozenset[bytes]:
    """Keys of the problems of a file or folder, by which they are left out of another set.

    Raises:
        InputError: where it is missing or broken, or has no prompts.
    """
    return frozenset(prompt_key(question) for question, _ in read_questions(path))


def _main_format(files: Sequence[Path]) -> list[Path]:
    """The files of the format that holds most of the data; a JSON or CSV file beside Parquet may be no data at all."""
    sizes: Counter[str] = Counter()
    for file in files:
        sizes[file.suffix.lower()] += file.stat().st_size
    (suffix, _), *_ = sizes.most_common(1)
    return [file for file in files if file.suffix.lower() == suffix]


def _has_columns(file: Path, columns: Sequence[str]) -> bool:
    try:
        return set(columns) <= set(columns_of(file))
    except InputError:
        return False


def _require_one_schema(files: Sequence[Path], columns: Sequence[str]) -> None:
    known_types: dict[str, tuple[str, Path]] = {}
    for file in files:
        missing = [column for column in columns if column not in columns_of(file)]
        if missing:
            raise InputError(f"{file} has no column '{missing[0]}', which {files[0]} has; {_SEPARATE}")
        types: Any = read_schema(file) if is_columnar(file) else None
        for column in columns if types else ():
            kind = str(types.field(column).type).replace("large_", "")
            known, first = known_types.setdefault(column, (kind, file))
            if kind != known and "null" not in (kind, known):
                raise InputError(f"{file} has column '{column}' as {kind}, {first} as {known}; {_SEPARATE}")
