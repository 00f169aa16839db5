"""What finished cells have come to: their measurement, the cost of training, its curves and tables."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from luffy.errors import InputError
from luffy.figures import figure, legend, line, share_axis, step_axis, value_axis
from luffy.ledger import Ledger, read_ledger
from luffy.models import parameter_count
from luffy.training_report import Curve, curve, held_out_accuracy, read_metrics
from miniature.comparison.cells import Cell, Folders, read_json
from miniature.comparison.measure import Measurement
from miniature.comparison.methods import LUFFY, PAPER, SFT_RL

REWARD, ENTROPY, LENGTH = "on_policy/reward", "on_policy/entropy", "on_policy/response_length"
PROBABILITY, HELD_OUT = "off_policy/probability", "avg@8"
CURVES = (HELD_OUT, REWARD, ENTROPY, LENGTH, PROBABILITY)
STEP_SECONDS, WARM_UP = "timing_s/step", 3  # of reinforcement learning, and its first steps, which take longer


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """A finished cell.

    Attributes:
        cell: which.
        measured: what its last model can do.
        best: highest avg@8 on the curve's held-out problems, at any point after training began.
        last: avg@8 on the same problems at the end.
        costs: of training, its share of the start model's included.
        parameters: of the model.
        seconds: wall clock of training, start-up and looks at held-out problems included.
        peak_memory_bytes: most memory of all processes together.
        curves: by the names of :data:`CURVES`; a method without a metric has an empty curve. Steps count from the base.
        step_seconds: median over its steps of reinforcement learning but the first :data:`WARM_UP`; None where it has none.
    """

    cell: Cell
    measured: Measurement
    best: float
    last: float
    costs: Ledger
    parameters: int
    seconds: float
    peak_memory_bytes: int
    curves: dict[str, Curve]
    step_seconds: float | None = None


def collect(cells: Sequence[Cell], layout: Folders) -> list[CellResult]:
    """Results of the cells that are finished, from their folders.

    Raises:
        InputError: where a file of a finished cell is broken.
    """
    return [_read(cell, layout) for cell in cells if layout.is_finished(cell)]


def _read(cell: Cell, layout: Folders) -> CellResult:
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
        costs=read_ledger(records) + _start_costs(cell, layout),
        parameters=parameter_count(layout.model(cell, cell.steps - cell.start_step)),
        seconds=summary["seconds"] + _start_seconds(cell, layout),
        peak_memory_bytes=summary["peak_memory_bytes"],
        curves=curves,
        step_seconds=statistics.median(steps) if (steps := curve(records, STEP_SECONDS).values[WARM_UP:]) else None,
    )


def _held_out(records: Sequence[dict[str, Any]], cell: Cell) -> Curve:
    found = [(record["step"], held_out_accuracy(record["data"]).get(HELD_OUT)) for record in records]
    points = [(step, value) for step, value in found if value is not None]
    held_out = Curve(name=HELD_OUT, steps=tuple(s for s, _ in points), values=tuple(v for _, v in points))
    return _shifted(held_out, cell.start_step)


def _shifted(found: Curve, steps: int) -> Curve:
    return replace(found, steps=tuple(step + steps for step in found.steps))


def _points(found: Curve) -> list[tuple[int, float]]:
    return list(zip(found.steps, found.values, strict=True))


def _start_seconds(cell: Cell, layout: Folders) -> float:
    """The share of the other run's seconds that made the start model."""
    if cell.start is None:
        return 0.0
    summary = read_json(layout.summary(cell.start)) or {"seconds": 0.0}
    return summary["seconds"] * cell.start_step / cell.start.steps


def _start_costs(cell: Cell, layout: Folders) -> Ledger:
    """The costs of the other run's steps that made the start model."""
    if cell.start is None or not layout.metrics(cell.start).is_file():
        return Ledger()
    return read_ledger(read_metrics(layout.metrics(cell.start)), until=cell.start_step)


Column = tuple[str, Callable[[CellResult], float | None], str]  # heading, value, format of a number

COLUMNS: tuple[Column, ...] = (
    ("avg@8", lambda result: result.measured.avg8, ".3f"),
    ("greedy", lambda result: result.measured.greedy, ".3f"),
    ("pass@8", lambda result: result.measured.pass8, ".3f"),
    ("harder avg@8", lambda result: result.measured.harder_avg8, ".3f"),
    ("best point", lambda result: result.best, ".3f"),
    ("last point", lambda result: result.last, ".3f"),
    ("entropy", lambda result: result.measured.entropy, ".3f"),
    ("length", lambda result: result.measured.response_length, ".1f"),
)
LEDGER: tuple[Column, ...] = (
    ("tokens generated (1 000)", lambda result: result.costs.generated / 1000, ".0f"),
    ("tokens trained on (1 000)", lambda result: result.costs.trained / 1000, ".0f"),
    ("traces seen", lambda result: result.costs.traces, ".0f"),
    ("FLOPs (10^12)", lambda result: result.costs.flops(result.parameters) / 1e12, ".2f"),
    ("seconds a step", lambda result: result.step_seconds, ".2f"),
    ("seconds", lambda result: result.seconds, ".0f"),
    ("memory (GiB)", lambda result: result.peak_memory_bytes / 2**30, ".1f"),
)
LEGEND = (
    "Mean ± sample standard deviation over the seeds. *avg@8*, *pass@8*: 256 held-out problems, 8 samples each at "
    "temperature 1, asked of the last model. *greedy*: the same problems, decoded greedily. *harder*: 256 problems one "
    "digit longer than any that was trained on. *best point*, *last point*: avg@8 on 64 of the held-out problems "
    "during training, so the best is chosen on what it is measured with. *entropy*: nats a token of the last model's held-out "
    "answers. *tokens generated*: by the policy, for training, those that were rolled again included. *tokens trained on*: response "
    "tokens that count in an update. *traces seen*: rows that were given a demonstration, whole or in part. *FLOPs*: 6N a token (prompts "
    "included) of an update, 2N a generated token and one of a forward pass alone; N parameters. *seconds a step*: "
    f"median over a run's steps of reinforcement learning after {WARM_UP}. *seconds*: training with start-up and "
    "looks at held-out problems. *memory*: most at one time, all processes together. *SFT then RL* includes its share of SFT; a teacher's "
    "own training is in no row."
)
MISSING = "–"
POINTS = ("best point", "last point")  # columns of regimes whose runs look at held-out problems on the way


def method_table(results: Sequence[CellResult], methods: Sequence[tuple[str, str]], *, points: bool) -> str:
    """One row a method.

    Args:
        results: of one regime.
        methods: names and titles, in order; one without results gets a row of dashes.
        points: with the columns of :data:`POINTS`.
    """
    return _table(results, methods, [column for column in COLUMNS if points or column[0] not in POINTS])


def ledger_table(results: Sequence[CellResult], methods: Sequence[tuple[str, str]]) -> str:
    """What each method has cost, one row a method; arguments as of :func:`method_table`."""
    return _table(results, methods, LEDGER)


def _table(results: Sequence[CellResult], methods: Sequence[tuple[str, str]], columns: Sequence[Column]) -> str:
    """One row a method; a column of which no result has a value is left out."""
    columns = [column for column in columns if not results or any(column[1](result) is not None for result in results)]
    rows = [["method", "seeds", *(heading for heading, _, _ in columns)]]
    for name, title in methods:
        own = [result for result in results if result.cell.method.name == name]
        cells = [spread([known for result in own if (known := value(result)) is not None], form) for _, value, form in columns]
        rows.append([title, str(len(own)), *cells])
    return markdown(rows)


def spread(values: Sequence[float], form: str) -> str:
    """Mean ± sample standard deviation; the value alone where there is one, a dash where there is none."""
    if not values:
        return MISSING
    mean = format(statistics.fmean(values), form)
    return mean if len(values) == 1 else f"{mean} ± {format(statistics.stdev(values), form)}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose first row is the heading."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]) + "\n"


PICTURES = {  # file name: metric, label of the vertical axis
    "heldout": (HELD_OUT, "held-out avg@8"),
    "reward": (REWARD, "reward of the rollouts"),
    "entropy": (ENTROPY, "entropy (nats a token)"),
    "response_length": (LENGTH, "response length (tokens)"),
    "demonstration_probability": (PROBABILITY, "probability of a demonstration's token"),
}

SHARES = (HELD_OUT, REWARD, PROBABILITY)
OTHER_COLORS = ("C0", "C1", "C6", "C7", "C8", "C9", "k")  # by place in a panel, of methods that are not the paper's
MOST_IN_PANEL = len(OTHER_COLORS)


def draw(results: Sequence[CellResult], methods: Sequence[tuple[str, str]], folder: Path) -> list[str]:
    """Write the pictures of one regime as PNG and SVG.

    Args:
        results: of one regime.
        methods: names and titles. Many are dealt out over panels, each with LUFFY and SFT then RL beside them.
        folder: where pictures go.

    Returns:
        Names of the pictures, without a suffix; one without any curve is left out, and so are held-out problems where
        runs look at them at their ends alone.
    """
    drawn = []
    ends_alone = all(result.cell.regime.points == 1 for result in results)
    for name, (metric, label) in PICTURES.items():
        if metric == HELD_OUT and ends_alone:
            continue
        bands = {method: points for method, _ in methods if (points := band(results, method, metric))}
        if not bands:
            continue
        shown_in = panels([each for each in methods if each[0] in bands])
        with figure(folder / name, panels=len(shown_in), columns=2, formats=("png",)) as every:
            for axes, shown in zip(every, shown_in, strict=True):
                for place, (method, title) in enumerate(shown):
                    _line(axes, bands[method], title, _color(method, place))
                step_axis(axes)
                share_axis(axes, label) if metric in SHARES else value_axis(axes, label)
                legend(axes)
        drawn.append(name)
    return drawn


def band(results: Sequence[CellResult], method: str, metric: str) -> list[tuple[int, float, float, float]]:
    """Step, mean, smallest and largest value over a method's seeds, at the steps that all of them have."""
    curves = [result.curves[metric] for result in results if result.cell.method.name == method]
    by_step = [dict(zip(each.steps, each.values, strict=True)) for each in curves]
    shared = sorted(set.intersection(*map(set, by_step))) if by_step else []
    columns = [(step, [values[step] for values in by_step]) for step in shared]
    return [(step, statistics.fmean(values), min(values), max(values)) for step, values in columns]


def panels(methods: Sequence[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """The methods of each panel: all in one, or a few beside those that all are measured by."""
    if len(methods) <= MOST_IN_PANEL:
        return [list(methods)]
    measures = [each for each in methods if each[0] in (LUFFY, SFT_RL)]
    others = [each for each in methods if each not in measures]
    size = MOST_IN_PANEL - len(measures)
    return [[*measures, *others[start : start + size]] for start in range(0, len(others), size)]


def _color(method: str, place: int) -> str:
    """Of a paper's method its own in all pictures, of another that of its place in the panel."""
    return f"C{PAPER.index(method)}" if method in PAPER else OTHER_COLORS[place]


def _line(axes, points: Sequence[tuple[int, float, float, float]], title: str, color: str) -> None:
    steps, means, low, high = zip(*points, strict=True)
    line(axes, steps, means, label=title, color=color)
    axes.fill_between(steps, low, high, color=color, alpha=0.15, linewidth=0)
