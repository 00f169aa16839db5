"""One source of a data set: its files, checked to share a layout, and its rows in batches."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from luffy.data import columnar, hub
from luffy.data.files import FORMATS, Batch, columns_of, find_files, read_batches
from luffy.data.layout import ColumnNames, Layout, find_layout
from luffy.data.system_prompt import SystemRewriter
from luffy.errors import InputError
from luffy.traces import UNKNOWN_SOURCE

logger = logging.getLogger(__name__)

_SEPARATE = "give files of different layouts as separate sources"


@dataclass(frozen=True, kw_only=True)
class SourceSpec:
    """What a user says about one source.

    Attributes:
        location: a local file or folder, or a hub name.
        columns: the columns that the user named.
        teacher: who wrote its traces, where no column says so.
        config: configuration of a hub data set, or of a clone of one.
        split: split of a hub data set or a folder.
    """

    location: str
    columns: ColumnNames = ColumnNames()
    teacher: str = UNKNOWN_SOURCE
    config: str | None = None
    split: str = "train"


@dataclass(frozen=True)
class Source:
    """A source whose files were found and whose layout is known."""

    spec: SourceSpec
    files: tuple[Path, ...]
    layout: Layout

    def batches(self, file: Path, size: int) -> Iterator[Batch]:
        """The rows of one of its files."""
        return read_batches(file, size, self.layout.columns)


def open_source(spec: SourceSpec, *, system: SystemRewriter, traces: bool = True) -> Source:
    """Find a source's files and layout, fetching it from the hub where it is no local path.

    Raises:
        InputError: where there are no files, a file is broken, or the files do not share the needed columns.
    """
    if not spec.location.strip():
        raise InputError("a source has no name; give a file, a folder or a hub name")
    local = Path(spec.location).expanduser()
    if not local.exists() and hub.is_hub_name(spec.location):
        files = hub.fetch(spec.location, config=spec.config, split=spec.split)
    else:
        files = find_files(local, spec.split, spec.config)
    main = _main_format(files)
    layout = find_layout(columns_of(main[0]), spec.columns, teacher=spec.teacher, system=system, traces=traces, where=str(main[0]))
    stray = [file for file in files if file not in main and not _has_columns(file, layout.columns)]
    if stray:
        logger.warning("left out: %s (no columns of the other files)", ", ".join(map(str, stray)))
    files = tuple(file for file in files if file not in stray)
    _require_one_schema(files, layout.columns)
    return Source(spec, files, layout)


def _main_format(files: Sequence[Path]) -> list[Path]:
    """The files of the format that holds most of the data; a JSON or CSV file beside Parquet may be no data at all."""
    sizes = Counter()
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
    types: dict[str, tuple[str, Path]] = {}
    for file in files:
        missing = [column for column in columns if column not in columns_of(file)]
        if missing:
            raise InputError(f"{file} has no column '{missing[0]}', which {files[0]} has; {_SEPARATE}")
        if FORMATS[file.suffix.lower()].columns is not columnar.columns:
            continue
        schema = columnar.read_schema(file)
        for column in columns:
            kind = str(schema.field(column).type).replace("large_", "")
            known, first = types.setdefault(column, (kind, file))
            if kind != known and "null" not in (kind, known):
                raise InputError(f"{file} has column '{column}' as {kind}, {first} as {known}; {_SEPARATE}")
