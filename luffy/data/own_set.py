"""A held-out set of the user's own, in the layout of the evaluation files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from luffy.benchmarks import BENCHMARKS, plain_name
from luffy.data import schema
from luffy.data.atomic import replacing, require_new_parquet
from luffy.data.example import Example
from luffy.data.files import columns_of
from luffy.data.source import SourceSpec, open_source
from luffy.data.system_prompt import SystemRewriter
from luffy.errors import InputError
from luffy.traces import PROMPT, TARGET

ROWS_AT_ONCE = 1024
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
TAKEN = re.compile(r"valid(\..*)?|openr1.*|sft.*|complement.*", re.IGNORECASE)  # the project's own files


def write_own_set(spec: SourceSpec, folder: Path, *, name: str, system: SystemRewriter) -> tuple[Path, int]:
    """Write an evaluation file of own problems, ``NAME.parquet``.

    Args:
        spec: the problems with their gold answers, in any layout that training data may have.
        folder: where the file goes.
        name: of the file, and ``data_source`` of the rows that have none; those that have one keep it.
        system: adds the system message.

    Returns:
        The file and its rows.

    Raises:
        InputError: for a name that is another set's, also a training set's, or rows without a problem or a gold answer.
    """
    _check_name(name)
    path = folder / f"{name}.parquet"
    if path.exists() and TARGET in columns_of(path):
        raise InputError(f"--name {name}: {path} is a training set, which would be lost; give your held-out set another name")
    source = open_source(spec, system=system, traces=False)
    require_new_parquet(path, source.files)
    named = schema.DATA_SOURCE in source.layout.optional
    rows: list[dict[str, Any]] = []
    empty: list[str] = []
    for file in source.files:
        for batch in source.batches(file, ROWS_AT_ONCE):
            for number, row in enumerate(batch.rows(), batch.first_row):
                where = f"{file} row {number}"
                example = source.layout.read(row, where)
                asked = any(each["role"] == "user" and each["content"].strip() for each in example.prompt)
                if not (asked and example.gold.strip()):
                    empty.append(where)
                rows.append(_row(example, len(rows), example.data_source if named else name))
    if empty or not rows:
        first = empty[0] if empty else spec.location
        raise InputError(f"{first}: no problem or no gold answer ({len(empty)} of {len(rows)} rows); mend or remove them")
    with replacing(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema.arrow_schema("eval")), temporary, compression="zstd")
    return path, len(rows)


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise InputError(f"--name {name!r}: give letters, digits, '.', '_' and '-'; it names the file and the table's column")
    known = next((each.title for each in BENCHMARKS if plain_name(name) in each.spellings), None)
    if known or TAKEN.fullmatch(name):
        raise InputError(f"--name {name}: is the name of {known or 'a file of the project'}; give your set another")


def _row(example: Example, index: int, data_source: str) -> dict[str, Any]:
    return {
        schema.DATA_SOURCE: data_source,
        PROMPT: list(example.prompt),
        schema.ABILITY: example.ability,
        schema.REWARD_MODEL: {"style": "rule", "ground_truth": example.gold},
        schema.EXTRA_INFO: {"index": index, "split": "test"},
    }
