"""What became of every row and trace: a table, JSON, a list of drops, and histograms of the lengths."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from luffy.data.faults import MEANINGS, OVERLAP
from luffy.data.merge import MergePlan, Shards
from luffy.files import replacing

_BINS = 40


@dataclass(frozen=True, kw_only=True)
class LengthSummary:
    """How long the output's prompts or traces are.

    Attributes:
        count, shortest, median, mean, p95, longest: of the lengths, in the report's unit.
        edges: borders of the histogram's bins, one more than there are bins.
        counts: lengths in each bin.
    """

    count: int
    shortest: int
    median: float
    mean: float
    p95: float
    longest: int
    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """The balance of a run.

    ``rows_in = rows_out + merged_rows + sum(dropped_rows)`` and ``traces_in = traces_out + sum(dropped_traces)``.

    Attributes:
        unit: of the lengths: "tokens", or "characters" where no tokenizer was given.
        overlaps: prompts found in evaluation sets, by how (:class:`luffy.data.overlap.Overlap`) and set: "exact: NAME".
        teachers: traces of the output by teacher.
        traces_per_row: rows of the output by their number of traces.
        settings: what the filter was told, and the files that it read.
    """

    rows_in: int
    rows_out: int
    merged_rows: int
    dropped_rows: dict[str, int]
    traces_in: int
    traces_out: int
    dropped_traces: dict[str, int]
    overlaps: dict[str, int]
    teachers: dict[str, int]
    traces_per_row: dict[int, int]
    unit: str
    prompt_lengths: LengthSummary | None
    trace_lengths: LengthSummary | None
    settings: dict[str, Any]


def build_report(shards: Shards, plan: MergePlan, *, unit: str, hub_names: Sequence[str] = ()) -> Report:
    """Add up what the filter and the merge counted; ``hub_names``: of sources that were fetched from the Hub."""
    rows, traces = 0, 0
    overlaps: Counter[str] = Counter()
    dropped_rows, dropped_traces = Counter(plan.dropped_rows), Counter(plan.dropped_traces)
    for summary in map(shards.summary, range(len(shards))):
        rows, traces = rows + summary["rows"], traces + summary["traces"]
        overlaps.update(place for _, place, _ in summary["overlaps"])
        for drop in summary["drops"]:
            of_row = drop["trace"] is None
            dropped_rows[drop["reason"]] += of_row
            dropped_traces[drop["reason"]] += drop["traces"] if of_row else 1
    return Report(
        rows_in=rows,
        rows_out=len(plan.rows),
        merged_rows=plan.merged,
        dropped_rows=_ordered(dropped_rows),
        traces_in=traces,
        traces_out=len(plan.trace_lengths),
        dropped_traces=_ordered(dropped_traces),
        overlaps=dict(sorted(overlaps.items())),
        teachers=dict(sorted(plan.teachers.items())),
        traces_per_row=dict(sorted(plan.traces_per_row.items())),
        unit=unit,
        prompt_lengths=_lengths(plan.prompt_lengths),
        trace_lengths=_lengths(plan.trace_lengths),
        settings=shards.parameters | {"input": [name for name, *_ in shards.parameters["input"]], "hub_names": list(hub_names)},
    )


def list_drops(shards: Shards, plan: MergePlan) -> Iterator[dict[str, Any]]:
    """Every dropped row and trace with its file, row and reason."""
    files: list[str] = []
    overlaps: dict[tuple[int, int], str] = {}
    for shard in range(len(shards)):
        summary = shards.summary(shard)
        files.append(summary["file"])
        overlaps |= {(shard, row): f"{place} ({how})" if how else place for row, place, how in summary["overlaps"]}
        for drop in summary["drops"]:
            yield {"file": files[shard], **{key: drop[key] for key in ("row", "trace", "reason", "detail")}}
    for shard, row, reason in plan.drops:
        detail = overlaps.get((shard, row), "") if reason == OVERLAP else ""
        yield {"file": files[shard], "row": row, "trace": None, "reason": reason, "detail": detail}


def report_folder(output: Path) -> Path:
    """Where the report of an output file lies."""
    return output.with_name(f"{output.stem}_report")


def write_report(report: Report, drops: Iterable[dict[str, Any]], folder: Path) -> None:
    """Write ``report.txt``, ``report.json``, ``dropped.jsonl`` and ``lengths.png`` into a folder."""
    with replacing(folder / "report.json") as path:
        path.write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")
    with replacing(folder / "report.txt") as path:
        path.write_text(format_report(report) + "\n", encoding="utf-8")
    with replacing(folder / "dropped.jsonl") as path, path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(json.dumps(drop, ensure_ascii=False) + "\n" for drop in drops)
    with replacing(folder / "lengths.png") as path:
        _plot(report, path)


def format_report(report: Report) -> str:
    """The report as a table of text."""
    lines = [f"{'':<28}{'rows':>10}{'traces':>10}", f"{'read':<28}{report.rows_in:>10}{report.traces_in:>10}"]
    for reason in MEANINGS:
        rows, traces = report.dropped_rows.get(reason, 0), report.dropped_traces.get(reason, 0)
        if rows or traces:
            lines.append(f"  - {reason:<24}{rows or '':>10}{traces or '':>10}  {MEANINGS[reason]}")
    if report.merged_rows:
        lines.append(f"  - {'merged':<24}{report.merged_rows:>10}{'':>10}  traces joined an earlier row of the same prompt")
    lines.append(f"{'written':<28}{report.rows_out:>10}{report.traces_out:>10}")
    trace = "trace + EOS" if report.unit == "tokens" else "trace"
    for title, lengths in (("prompt", report.prompt_lengths), (trace, report.trace_lengths)):
        if lengths:
            lines.append(
                f"{title}: median {lengths.median:g}, mean {lengths.mean:.0f}, 95 % below {lengths.p95:g}, "
                f"longest {lengths.longest} {report.unit}"
            )
    lines.extend(f"evaluation overlap, {place}: {count}" for place, count in report.overlaps.items())
    lines.extend(f"teacher {teacher}: {count} traces" for teacher, count in report.teachers.items())
    return "\n".join(lines)


def _ordered(counts: Counter[str]) -> dict[str, int]:
    return {reason: counts[reason] for reason in MEANINGS if counts[reason]}


def _lengths(values: Sequence[int]) -> LengthSummary | None:
    if not values:
        return None
    array = np.asarray(values)
    counts, edges = np.histogram(array, bins=_BINS)
    return LengthSummary(
        count=len(array),
        shortest=int(array.min()),
        median=float(np.median(array)),
        mean=float(array.mean()),
        p95=float(np.percentile(array, 95)),
        longest=int(array.max()),
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
    )


def _plot(report: Report, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    titled = (("prompts", report.prompt_lengths), ("traces", report.trace_lengths))
    for axes, (title, lengths) in zip(figure.subplots(1, 2), titled, strict=True):
        axes.set(title=title, xlabel=report.unit, ylabel="count")
        if lengths:
            axes.stairs(lengths.counts, lengths.edges, fill=True)
            axes.axvline(lengths.median, color="black", linewidth=1, linestyle=":", label=f"median {lengths.median:g}")
            axes.legend()
            axes.yaxis.get_major_locator().set_params(integer=True)
    figure.savefig(path, format="png", dpi=120, metadata={"Software": None})
