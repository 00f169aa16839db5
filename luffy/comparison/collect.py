"""What finished cells have come to: their measurement, the cost of training, and its curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from luffy.comparison.cells import Cell
from luffy.comparison.layout import Layout, read_json
from luffy.comparison.measurement import Measurement
from luffy.errors import InputError
from luffy.training_report import Curve, curve, held_out_accuracy, read_metrics

REWARD, ENTROPY, LENGTH = "on_policy/reward", "on_policy/entropy", "on_policy/response_length"
PROBABILITY, HELD_OUT = "off_policy/probability", "avg@8"
CURVES = (HELD_OUT, REWARD, ENTROPY, LENGTH, PROBABILITY)


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """A finished cell.

    Attributes:
        cell: which.
        measured: what its last model can do.
        best: highest avg@8 on the curve's held-out problems, at any point after training began.
        last: avg@8 on the same problems at the end.
        tokens: tokens that the policy generated for training.
        seconds: wall clock of training, start-up and looks at held-out problems included.
        peak_memory_bytes: most memory of all processes together.
        curves: by the names of :data:`CURVES`; a method without a metric has an empty curve. Steps count from the base.
    """

    cell: Cell
    measured: Measurement
    best: float
    last: float
    tokens: float
    seconds: float
    peak_memory_bytes: int
    curves: dict[str, Curve]


def collect(cells: Sequence[Cell], layout: Layout) -> tuple[list[CellResult], list[Cell]]:
    """Read the finished cells.

    Returns:
        Their results, and the cells that are not finished.

    Raises:
        InputError: where a file of a finished cell is broken.
    """
    finished = [cell for cell in cells if layout.is_finished(cell)]
    return [_read(cell, layout) for cell in finished], [cell for cell in cells if cell not in finished]


def _read(cell: Cell, layout: Layout) -> CellResult:
    records = read_metrics(layout.metrics(cell))
    summary = read_json(layout.summary(cell))
    curves = {name: _shifted(curve(records, name), cell.start_step) for name in CURVES[1:]}
    curves[HELD_OUT] = _held_out(records, cell)
    after = [value for step, value in _points(curves[HELD_OUT]) if step > cell.start_step]
    if not after:
        raise InputError(f"{layout.metrics(cell)} has no held-out accuracy; delete {layout.cell(cell)} to run it again")
    return CellResult(
        cell=cell,
        measured=Measurement(**read_json(layout.measurement(cell))),
        best=max(after),
        last=after[-1],
        tokens=sum(generated_tokens(record["data"]) for record in records),
        seconds=summary["seconds"] + _start_seconds(cell, layout),
        peak_memory_bytes=summary["peak_memory_bytes"],
        curves=curves,
    )


def generated_tokens(data: dict[str, Any]) -> float:
    """Response tokens that the policy generated in one training step, from the step's metrics; 0 where it did none."""
    if LENGTH not in data or "perf/total_num_tokens" not in data:
        return 0.0  # supervised fine-tuning, or a look at held-out problems alone
    prompt, response = data["prompt_length/mean"], data["response_length/mean"]
    responses = data["perf/total_num_tokens"] * response / (prompt + response)
    return responses * (1 - data["off_policy/token_share"])


def _held_out(records: Sequence[dict[str, Any]], cell: Cell) -> Curve:
    found = [(record["step"], held_out_accuracy(record["data"]).get(HELD_OUT)) for record in records]
    points = [(step, value) for step, value in found if value is not None]
    held_out = Curve(name=HELD_OUT, steps=tuple(s for s, _ in points), values=tuple(v for _, v in points))
    return _shifted(held_out, cell.start_step)


def _shifted(found: Curve, steps: int) -> Curve:
    return replace(found, steps=tuple(step + steps for step in found.steps))


def _points(found: Curve) -> list[tuple[int, float]]:
    return list(zip(found.steps, found.values, strict=True))


def _start_seconds(cell: Cell, layout: Layout) -> float:
    """The share of the other run's seconds that made the start model."""
    if cell.start is None:
        return 0.0
    summary = read_json(layout.summary(cell.start)) or {"seconds": 0.0}
    return summary["seconds"] * cell.start_step / cell.start.steps
