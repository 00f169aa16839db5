"""What stands in the tables: a row a model, a column a benchmark, and what is behind each number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from luffy.benchmarks import BENCHMARKS, IN_DISTRIBUTION, OTHER, OUT_OF_DISTRIBUTION, Benchmark
from luffy.evaluation.comparability import differences
from luffy.evaluation.estimators import Interval, average_interval
from luffy.evaluation.results import BenchmarkResult, Result

GROUPS = (IN_DISTRIBUTION, OUT_OF_DISTRIBUTION, OTHER)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One model on one benchmark, in percent, with what stands behind the number.

    Attributes:
        accuracy: avg@n with its 95 % interval, in percent.
        problems: distinct problems.
        samples: samples of all of them.
        planned: samples that the run was to make; None where no manifest says.
        of: problems of the whole benchmark or file; None where that is not known.
        pass_at: pass@k in percent by k: the powers of two up to the fewest samples of a problem, and that number.
        truncated: share of samples that were cut off, in percent; None where it is not known.
        unanswered: share of samples without an answer, in percent; None where it is not known.
        differences: what keeps the number from being compared with the published one.
    """

    accuracy: Interval
    problems: int
    samples: int
    planned: int | None
    of: int | None
    pass_at: dict[int, Interval]
    truncated: float | None
    unanswered: float | None
    differences: tuple[str, ...] = ()

    @property
    def missing(self) -> str:
        """What is not there yet, such as "5 of 12 samples"; empty where all is there."""
        return shortfall(self.samples, self.planned, self.problems, self.of)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model in one table.

    Attributes:
        name: of the model.
        cells: by the benchmarks' names.
        average: over the benchmarks that it has; None where it has none.
        absent: benchmarks of its run that have no sample yet, with the samples that they are to get.
    """

    name: str
    cells: dict[str, Cell]
    average: Interval | None
    absent: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Table:
    """The benchmarks of one group for all models."""

    group: str
    benchmarks: tuple[Benchmark, ...]
    rows: tuple[Row, ...]


def make_tables(results: Sequence[Result]) -> list[Table]:
    """The tables of the groups that have a benchmark in any of the results."""
    columns = list(dict.fromkeys(entry for result in results for entry in result.columns))
    columns.sort(key=lambda entry: BENCHMARKS.index(entry) if entry in BENCHMARKS else len(BENCHMARKS))
    tables = []
    for group in GROUPS:
        members = tuple(entry for entry in columns if entry.group == group)
        if members:
            rows = tuple(_row(result, members) for result in results)
            tables.append(Table(group=group, benchmarks=members, rows=tuple(row for row in rows if row.cells)))
    return tables


def shortfall(samples: int, planned: int | None, problems: int, of: int | None) -> str:
    """What is missing of samples and problems, such as "5 of 12 samples"; empty where nothing is known to be."""
    parts = [f"{samples} of {planned} samples"] if planned is not None and samples < planned else []
    parts += [f"{problems} of {of} problems"] if of is not None and problems < of else []
    return ", ".join(parts)


def label_temperatures(results: Sequence[Result]) -> list[Result]:
    """The results with the temperature in the names of models that were run at several."""
    temperatures: dict[str, set[float | None]] = {}
    for result in results:
        temperatures.setdefault(result.name, set()).add(result.temperature)
    return [
        replace(result, name=f"{result.name} (T={result.temperature})") if len(temperatures[result.name]) > 1 else result
        for result in results
    ]


def _row(result: Result, members: Sequence[Benchmark]) -> Row:
    columns = result.columns
    cells = {entry.name: _cell(entry, columns[entry]) for entry in members if entry in columns}
    average = average_interval([cell.accuracy for cell in cells.values()]) if cells else None
    return Row(name=result.name, cells=cells, average=average, absent=result.absent)


def _cell(entry: Benchmark, result: BenchmarkResult) -> Cell:
    most = result.fewest_samples
    ks = sorted({2**power for power in range(most.bit_length()) if 2**power <= most} | {most})
    return Cell(
        accuracy=_percent(result.accuracy()),
        problems=len(result.samples),
        samples=result.total,
        planned=result.planned,
        of=entry.problems or result.of,
        pass_at={k: _percent(result.pass_at(k)) for k in ks},
        truncated=None if result.truncated is None else 100 * result.truncated,
        unanswered=None if result.unanswered is None else 100 * result.unanswered,
        differences=tuple(differences(entry, result)),
    )


def _percent(interval: Interval) -> Interval:
    return Interval(100 * interval.value, 100 * interval.low, 100 * interval.high)
