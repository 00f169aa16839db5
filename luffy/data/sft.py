"""The SFT baseline's data: one row a trace, in the column that veRL's SFT trainer reads."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from luffy.data import schema
from luffy.data.check import check_layout
from luffy.data.rows import columns_of, read_batches, row_count
from luffy.errors import InputError
from luffy.files import replacing, require_new_parquet
from luffy.progress import Bar
from luffy.traces import PROMPT, TARGET, TARGET_SOURCE, read_traces

_ROWS_AT_ONCE = 512


def write_sft_set(training_file: Path, output: Path) -> int:
    """Write each trace of a training file as one conversation.

    Args:
        training_file: as ``data/prepare_train.py`` writes it.
        output: a parquet file whose column ``messages`` holds the prompt and the trace as the assistant's turn.

    Returns:
        The number of rows written.

    Raises:
        InputError: where the training file has another layout, or no trace at all.
    """
    check_layout(training_file)
    require_new_parquet(output, [training_file])
    columns = schema.arrow_schema("sft")
    rows, written = _rows(training_file), 0
    with replacing(output) as path, pq.ParquetWriter(path, columns, compression="zstd", use_dictionary=False) as writer:
        while part := list(itertools.islice(rows, _ROWS_AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(part, schema=columns))
            written += len(part)
        if not written:
            raise InputError(f"{training_file} has no trace to imitate; make it with data/prepare_train.py")
    return written


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    wanted = [column.name for column in schema.KINDS["train"] if column.name in columns_of(path)]
    with Bar(total=row_count(path), unit=" rows", desc="sft") as bar:
        for batch in read_batches(path, _ROWS_AT_ONCE, wanted):
            rows = batch.rows()
            for number, row in enumerate(rows, batch.first_row):
                yield from _conversations(row, f"{path} row {number}")
            bar.update(len(rows))


def _conversations(row: dict[str, Any], where: str) -> Iterator[dict[str, Any]]:
    try:
        traces = read_traces(row[TARGET], row.get(TARGET_SOURCE))
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    if traces and not row[PROMPT]:
        raise InputError(f"{where}: the prompt is empty; find all such rows with data/check.py")
    for trace in traces:
        yield {
            schema.MESSAGES: [*row[PROMPT], {"role": "assistant", "content": trace.text}],
            schema.DATA_SOURCE: row[schema.DATA_SOURCE],
            "source": trace.source,
            schema.EXTRA_INFO: row[schema.EXTRA_INFO],
        }
