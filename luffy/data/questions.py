"""The problems that a data file asks, whatever its layout is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from luffy.data.files import columns_of, find_files, read_batches
from luffy.data.layout import ColumnNames, find_layout
from luffy.data.schema import DATA_SOURCE
from luffy.data.system_prompt import KEEP, system_rewriter
from luffy.data.text_keys import prompt_key
from luffy.traces import UNKNOWN_SOURCE

_ROWS_AT_ONCE = 1024


def read_questions(path: Path) -> Iterator[tuple[str, str]]:
    """Read (question, data_source) of each row of a file or folder; a file without that column gives its own name.

    Raises:
        InputError: where it is missing or broken, or has no prompts.
    """
    for file in find_files(path):
        columns, system = columns_of(file), system_rewriter(KEEP)
        layout = find_layout(columns, ColumnNames(), teacher=UNKNOWN_SOURCE, system=system, traces=False, where=str(file))
        for batch in read_batches(file, _ROWS_AT_ONCE, layout.columns):
            for number, row in enumerate(batch.rows(), batch.first_row):
                example = layout.read(row, f"{file} row {number}")
                yield example.question, example.data_source if DATA_SOURCE in columns else file.stem


def read_prompt_keys(path: Path) -> frozenset[bytes]:
    """Keys of the problems of a file or folder, by which they are left out of another set.

    Raises:
        InputError: where it is missing or broken, or has no prompts.
    """
    return frozenset(prompt_key(question) for question, _ in read_questions(path))
