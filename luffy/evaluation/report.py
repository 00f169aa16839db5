"""The tables as Markdown, CSV and JSON, beside the paper's rows where they are asked for."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from luffy.benchmarks import BENCHMARKS, IN_DISTRIBUTION, OTHER, namesake
from luffy.data.atomic import replacing
from luffy.errors import InputError
from luffy.evaluation.comparability import PUBLISHED
from luffy.evaluation.estimators import Interval
from luffy.evaluation.tables import Cell, Row, Table

AVERAGE_TITLE = "Avg."


def published_rows() -> dict[str, Any]:
    """The paper's numbers: ``source``, ``benchmarks`` (column names) and ``rows`` with scores in percent."""
    return json.loads(resources.files("luffy.evaluation").joinpath("published.json").read_text(encoding="utf-8"))


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
        parts.append(
            f"Rows in italics are published numbers ({published_rows()['source']}), judged by other verifiers. Behind them, "
            f"as far as is known, are all problems, 32 samples of each in AIME and AMC and one elsewhere, {_protocol()}."
        )
    return "\n".join(parts) + "\n"


def to_csv(tables: Sequence[Table]) -> str:
    """One line for each model and benchmark."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(
        ["model", "group", "benchmark", "accuracy", "low", "high", "problems", "samples", "k", "pass_at_k"]
        + ["truncated", "unanswered", "planned_samples", "of_problems"]
    )
    for table in tables:
        for row in table.rows:
            for name, cell in row.cells.items():
                k = max(cell.pass_at)
                interval = [f"{value:.2f}" for value in (cell.accuracy.value, cell.accuracy.low, cell.accuracy.high)]
                writer.writerow(
                    [row.name, table.group, name, *interval, cell.problems, cell.samples, k]
                    + [f"{cell.pass_at[k].value:.2f}", *(_known(x, "") for x in (cell.truncated, cell.unanswered))]
                    + [_known(x, "", digits=0) for x in (cell.planned, cell.of)]
                )
            if row.average is not None:
                average = [f"{value:.2f}" for value in (row.average.value, row.average.low, row.average.high)]
                writer.writerow([row.name, table.group, "average", *average, *[""] * 8])
    return target.getvalue()


def to_json(tables: Sequence[Table]) -> str:
    """All numbers of the tables."""
    return json.dumps([asdict(table) for table in tables], indent=2, ensure_ascii=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write a whole file, or leave what is there.

    Raises:
        InputError: where it cannot be written.
    """
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise InputError(f"{path}: cannot write ({error.strerror}); give another place or make room") from error


def _accuracy_table(table: Table, *, published: bool) -> str:
    columns = [entry.name for entry in table.benchmarks]
    header = ["Model", *(entry.title for entry in table.benchmarks), AVERAGE_TITLE]
    lines = [[row.name, *(_shown(row.cells.get(name)) for name in columns), _shown_average(row, len(columns))] for row in table.rows]
    if published and table.group != OTHER:
        lines += _published_lines(columns, table.group)
    return _markdown(header, lines)


def _published_lines(columns: Sequence[str], group: str) -> list[list[str]]:
    """The published rows on these benchmarks; their averages are the published ones where all of a group are shown."""
    data = published_rows()
    whole = set(columns) == {entry.name for entry in BENCHMARKS if entry.group == group}
    average = "average" if group == IN_DISTRIBUTION else "average_out"
    lines = []
    for row in data["rows"]:
        scores = dict(zip(data["benchmarks"], row["scores"], strict=True))
        shown = [scores.get(name) for name in columns]
        mean = row[average] if whole else None if None in shown else sum(shown) / len(shown)
        if mean is not None:
            numbers = ("–" if number is None else f"{number:.1f}" for number in [*shown, mean])
            lines.append([f"*{row['name']} ({row['version']})*", *numbers])
    return lines


def _detail_table(table: Table) -> str:
    header = ["Model", "Benchmark", "Problems", "Samples", "pass@k", "Truncated", "No answer"]
    lines = []
    for row in table.rows:
        for entry in table.benchmarks:
            cell = row.cells.get(entry.name)
            if cell is not None:
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


def _protocol() -> str:
    return ", ".join(f"{name} {value}" for name, value in PUBLISHED.items())


def _of(there: int, whole: int | None) -> str:
    return str(there) if whole is None or whole == there else f"{there} of {whole}"


def _known(value: float | None, otherwise: str, *, digits: int = 2, unit: str = "") -> str:
    return otherwise if value is None else f"{value:.{digits}f}{unit}"


def _shown(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    return _with_interval(cell.accuracy) + (f" ({cell.missing})" if cell.missing else "")


def _shown_average(row: Row, benchmarks: int) -> str:
    if row.average is None:
        return "–"
    parts = [] if len(row.cells) == benchmarks else [f"{len(row.cells)} of {benchmarks}"]
    parts += ["incomplete"] if any(cell.missing for cell in row.cells.values()) else []
    return _with_interval(row.average) + (f" ({', '.join(parts)})" if parts else "")


def _with_interval(interval: Interval) -> str:
    return f"{interval.value:.1f} [{interval.low:.1f}, {interval.high:.1f}]"


def _markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [header, ["---"] + ["---:"] * (len(header) - 1), *lines]
    cells = ([" ".join(cell.replace("|", "\\|").split()) for cell in row] for row in rows)
    return "\n".join("| " + " | ".join(row) + " |" for row in cells)
