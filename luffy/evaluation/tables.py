"""The tables: a row a model, a column a benchmark, and what is behind each number; as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from luffy.benchmarks import (
    BENCHMARKS,
    IN_DISTRIBUTION,
    OTHER,
    OUT_OF_DISTRIBUTION,
    PUBLISHED,
    PUBLISHED_SAMPLING,
    PUBLISHED_SOURCE,
    Benchmark,
    namesake,
)
from luffy.evaluation.estimators import Interval, average_interval
from luffy.evaluation.results import BenchmarkResult, Result

GROUPS = (IN_DISTRIBUTION, OUT_OF_DISTRIBUTION, OTHER)
AVERAGE_TITLE = "Avg."
BENCHMARK_COLUMNS = ("name", "title", "group", "problems", "samples", "spellings", "shared_names")  # of a benchmark, in JSON
CSV_COLUMNS = ("model", "group", "benchmark", "accuracy", "low", "high", "problems", "samples", "k", "pass_at_k", "truncated", "unanswered", "planned_samples", "of_problems")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TableCell:
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
        cells: by the benchmarks' names; at least one.
        average: over the benchmarks that it has.
        absent: benchmarks of its run that have no sample yet, with the samples that they are to get.
    """

    name: str
    cells: dict[str, TableCell]
    average: Interval
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
        rows = [_row(result, members) for result in results if result.columns.keys() & set(members)]
        if rows:
            tables.append(Table(group=group, benchmarks=members, rows=tuple(rows)))
    return tables


def shortfall(samples: int, planned: int | None, problems: int, of: int | None) -> str:
    """What is missing of samples and problems, such as "5 of 12 samples"; empty where nothing is known to be."""
    parts = [f"{samples} of {planned} samples"] if planned is not None and samples < planned else []
    parts += [f"{problems} of {of} problems"] if of is not None and problems < of else []
    return ", ".join(parts)


def label_temperatures(results: Sequence[Result]) -> list[Result]:
    """The results with the temperature in the names of models that were run at several."""
    runs = {(result.name, result.temperature) for result in results}
    several = {name for name, count in Counter(name for name, _ in runs).items() if count > 1}
    return [replace(each, name=f"{each.name} (T={each.temperature})") if each.name in several else each for each in results]


def _row(result: Result, members: Sequence[Benchmark]) -> Row:
    cells = {entry.name: _cell(entry, result.columns[entry]) for entry in members if entry in result.columns}
    return Row(
        name=result.name,
        cells=cells,
        average=average_interval([cell.accuracy for cell in cells.values()]),
        absent=result.absent,
    )


def _cell(entry: Benchmark, result: BenchmarkResult) -> TableCell:
    return TableCell(
        accuracy=_percent(result.accuracy()),
        problems=result.problems,
        samples=result.total,
        planned=result.planned,
        of=entry.problems or result.of,
        pass_at={k: _percent(result.pass_at(k)) for k in result.ks},
        truncated=None if result.truncated is None else 100 * result.truncated,
        unanswered=None if result.unanswered is None else 100 * result.unanswered,
        differences=tuple(result.differences(entry)),
    )


def _percent(interval: Interval) -> Interval:
    return Interval(100 * interval.value, 100 * interval.low, 100 * interval.high)


def to_markdown(tables: Sequence[Table], *, published: bool = False) -> str:
    """The tables as Markdown: accuracies with intervals, then what stands behind them."""
    parts = []
    for table in tables:
        parts += [f"## {table.group.capitalize()}\n", _accuracy_table(table, published=published), ""]
        if published and table.group != OTHER and (lines := _difference_lines(table)):
            parts += ["Not comparable with the published numbers, or not known to be:\n", *lines, ""]
        parts += [_detail_table(table), ""]
    parts += _own_name_lines(tables) + _absent_lines(tables)
    parts.append(
        "Accuracy in percent: the mean over problems of the share of right samples (avg@n), with its 95 % interval over "
        f"problems (Wilson). {AVERAGE_TITLE}: the unweighted mean over the benchmarks of the row. In brackets: what is "
        "there of what was asked for, or of the whole benchmark; such a number is of another set of problems than it will be."
    )
    if published and all(table.group == OTHER for table in tables):
        parts.append("None of these benchmarks has published numbers.")
    elif published:
        protocol = ", ".join(f"{name} {value}" for name, value in PUBLISHED_SAMPLING.items())
        parts.append(
            f"Rows in italics are published numbers ({PUBLISHED_SOURCE}), judged by other verifiers. Behind them, "
            f"as far as is known, are all problems, 32 samples of each in AIME and AMC and one elsewhere, {protocol}."
        )
    return "\n".join(parts) + "\n"


def to_csv(tables: Sequence[Table]) -> str:
    """One line for each model and benchmark."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for table in tables:
        for row in table.rows:
            for name, cell in row.cells.items():
                k = max(cell.pass_at)
                shares = (_known(cell.truncated, ""), _known(cell.unanswered, ""))
                counts = (_known(cell.planned, "", digits=0), _known(cell.of, "", digits=0))
                writer.writerow(
                    (row.name, table.group, name, *_bounds(cell.accuracy), cell.problems, cell.samples, k)
                    + (f"{cell.pass_at[k].value:.2f}", *shares, *counts)
                )
            writer.writerow((row.name, table.group, "average", *_bounds(row.average), *[""] * 8))
    return target.getvalue()


def to_json(tables: Sequence[Table]) -> str:
    """All numbers of the tables."""
    shown = [
        {
            "group": table.group,
            "benchmarks": [{name: getattr(entry, name) for name in BENCHMARK_COLUMNS} for entry in table.benchmarks],
            "rows": [asdict(row) for row in table.rows],
        }
        for table in tables
    ]
    return json.dumps(shown, indent=2, ensure_ascii=False) + "\n"


def _accuracy_table(table: Table, *, published: bool) -> str:
    columns = [entry.name for entry in table.benchmarks]
    header = ["Model", *(entry.title for entry in table.benchmarks), AVERAGE_TITLE]
    lines = [[row.name, *(_shown(row.cells.get(name)) for name in columns), _shown_average(row, len(columns))] for row in table.rows]
    if published and table.group != OTHER:
        lines += _published_lines(table)
    return _markdown(header, lines)


def _published_lines(table: Table) -> list[list[str]]:
    """The published rows on these benchmarks; their averages are the published ones where all of a group are shown."""
    whole = set(table.benchmarks) == {entry for entry in BENCHMARKS if entry.group == table.group}
    lines = []
    for place, row in enumerate(PUBLISHED):
        shown = [entry.published[place] if place < len(entry.published) else None for entry in table.benchmarks]
        known = [number for number in shown if number is not None]
        average = row.average if table.group == IN_DISTRIBUTION else row.average_out
        mean = average if whole else sum(known) / len(known) if len(known) == len(shown) else None
        if mean is not None:
            lines.append([f"*{row.name} ({row.version})*", *(_known(number, "–", digits=1) for number in [*shown, mean])])
    return lines


def _detail_table(table: Table) -> str:
    header = ["Model", "Benchmark", "Problems", "Samples", "pass@k", "Truncated", "No answer"]
    lines = []
    for row in table.rows:
        for entry in table.benchmarks:
            if cell := row.cells.get(entry.name):
                counts = [_of(cell.problems, cell.of), _of(cell.samples, cell.planned)]
                shares = [_known(share, "–", digits=1, unit=" %") for share in (cell.truncated, cell.unanswered)]
                passes = ", ".join(f"@{k} {interval.value:.1f}" for k, interval in cell.pass_at.items())
                lines.append([row.name, entry.title, *counts, passes, *shares])
    return _markdown(header, lines)


def _difference_lines(table: Table) -> list[str]:
    """One line for each model and difference, with the benchmarks that have it."""
    lines = []
    for row in table.rows:
        found: dict[str, list[str]] = {}
        for entry in table.benchmarks:
            for difference in row.cells[entry.name].differences if entry.name in row.cells else ():
                found.setdefault(difference, []).append(entry.title)
        lines += [f"* {row.name}, {', '.join(titles)}: {difference}" for difference, titles in found.items()]
    return lines


def _own_name_lines(tables: Sequence[Table]) -> list[str]:
    others = {entry.name: namesake(entry.name) for table in tables for entry in table.benchmarks if table.group == OTHER}
    lines = [
        f"{name} is not {other.title}, which has {other.problems} problems: it stands under its own name."
        for name, other in others.items()
        if other is not None and other.group != OTHER
    ]
    return [" ".join(lines), ""] if lines else []


def _absent_lines(tables: Sequence[Table]) -> list[str]:
    absent = {(row.name, source): samples for table in tables for row in table.rows for source, samples in row.absent.items()}
    lines = [f"* {name}, {source}: 0 of {samples} samples" for (name, source), samples in absent.items()]
    return ["Not begun:\n", *lines, ""] if lines else []


def _of(there: int, whole: int | None) -> str:
    return str(there) if whole is None or whole == there else f"{there} of {whole}"


def _known(value: float | None, otherwise: str, *, digits: int = 2, unit: str = "") -> str:
    return otherwise if value is None else f"{value:.{digits}f}{unit}"


def _bounds(interval: Interval) -> list[str]:
    return [f"{value:.2f}" for value in (interval.value, interval.low, interval.high)]


def _shown(cell: TableCell | None) -> str:
    if cell is None:
        return "–"
    return _with_interval(cell.accuracy) + (f" ({cell.missing})" if cell.missing else "")


def _shown_average(row: Row, benchmarks: int) -> str:
    parts = [] if len(row.cells) == benchmarks else [f"{len(row.cells)} of {benchmarks}"]
    parts += ["incomplete"] if any(cell.missing for cell in row.cells.values()) else []
    return _with_interval(row.average) + (f" ({', '.join(parts)})" if parts else "")


def _with_interval(interval: Interval) -> str:
    return f"{interval.value:.1f} [{interval.low:.1f}, {interval.high:.1f}]"


def _markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [header, ["---"] + ["---:"] * (len(header) - 1), *lines]
    cells = ([" ".join(cell.replace("|", "\\|").split()) for cell in row] for row in rows)
    return "\n".join("| " + " | ".join(row) + " |" for row in cells)
