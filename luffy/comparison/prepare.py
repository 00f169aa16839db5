"""Start model, problems and traces of a regime."""

from __future__ import annotations

import pyarrow.parquet as pq

from luffy.comparison.cells import Cell
from luffy.comparison.layout import Layout
from luffy.data.atomic import replacing
from luffy.tiny.dataset import HELDOUT_FILE, tables
from luffy.tiny.example import build

SEED = 0  # of base and held-out problems: a cell's own seed is that of training, its problems and their traces
CURVE_FILE = "heldout_curve.parquet"  # answered during training
CURVE_PROBLEMS = 64


def prepare(cell: Cell, layout: Layout) -> None:
    """Build what the cell needs and is not there yet: the base takes a minute or two, the data a second."""
    build(layout.base(cell.regime), SEED, base=cell.regime.base)
    for name, table in _files(cell).items():
        with replacing(layout.data(cell) / name) as temporary:
            pq.write_table(table, temporary)


def _files(cell: Cell) -> dict:
    found = tables(cell.regime.data, SEED, train_seed=cell.seed)
    return found | {CURVE_FILE: found[HELDOUT_FILE].slice(0, CURVE_PROBLEMS)}
