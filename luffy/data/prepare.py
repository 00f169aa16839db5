"""From sources to a training file: read, filter in parallel, keep finished parts, merge, write."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from luffy.data import reasons
from luffy.data.atomic import replacing, require_new_parquet
from luffy.data.example import Example
from luffy.data.files import Batch, Row
from luffy.data.filtering import Drop, Filter, FilterOptions, Judged
from luffy.data.merge import ENTRIES, MergeOptions, plan_merge, write_merged
from luffy.data.report import Report, build_report, list_drops, report_folder, write_report
from luffy.data.source import Source
from luffy.data.text_keys import digest, prompt_key
from luffy.data.work_folder import WorkFolder
from luffy.errors import InputError
from luffy.progress import Bar

logger = logging.getLogger(__name__)

SHARD_ROWS = 256
_DROP_MALFORMED = " (--drop-malformed leaves such rows out)"


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """How a training file is made.

    Attributes:
        filter: what is kept.
        merge: how rows become the output.
        drop_malformed: leave out rows whose values have the wrong type, instead of refusing the source.
        dry_run: write the report alone.
        restart: throw finished parts of a run with other settings away.
        split: the split's name in ``extra_info``.
        settings: what else the filter's result depends on (tokenizer, verifier, evaluation files, system prompt).
    """

    filter: FilterOptions = FilterOptions()
    merge: MergeOptions = MergeOptions()
    drop_malformed: bool = False
    dry_run: bool = False
    restart: bool = False
    split: str = "train"
    settings: dict[str, Any] = field(default_factory=dict)


def prepare(sources: Sequence[Source], output: Path, row_filter: Filter, options: PrepareOptions) -> Report:
    """Make a training file.

    A run that was killed goes on where it was when it is started again with the same settings. The output appears under
    its name only once it is whole, and is the same to the byte for the same input, settings and seed.

    Args:
        sources: in order; the first one that has a problem gives its prompt.
        output: the parquet file.
        row_filter: the filter, with its tokenizer and verifier.
        options: everything else.

    Returns:
        The report, which is also written beside the output.

    Raises:
        InputError: where the output is no new parquet file, a source is broken, nothing is left, or prompts are in an evaluation set against the options.
    """
    require_new_parquet(output, [file for source in sources for file in source.files])
    with WorkFolder(output, _manifest(sources, options), restart=options.restart) as work:
        origins = _filter_into_shards(sources, row_filter, work, options)
        plan = plan_merge(work, len(origins), options.merge)
        report = build_report(work, plan, unit="tokens" if row_filter.counts_tokens else "characters")
        write_report(report, list_drops(work, plan, origins), report_folder(output))
        if options.merge.on_overlap == "error":
            _refuse_overlap(report, output)
        if not plan.rows:
            work.remove()  # other settings are needed, and nothing of this is of use to them
            raise InputError(f"no row is left for {output}: {_most_frequent(report)}; {report_folder(output)} lists them")
        if not options.dry_run:
            with replacing(output) as path:
                write_merged(work, plan, path, split=options.split)
        work.remove()
    return report


def _filter_into_shards(sources: Sequence[Source], row_filter: Filter, work: WorkFolder, options: PrepareOptions) -> list[Path]:
    """Filter every batch that is not done yet; returns each shard's file."""
    origins: list[Path] = []
    total = sum(file.stat().st_size for source in sources for file in source.files)
    with Bar(total=total, unit="B", unit_scale=True, desc="filter") as bar:
        before = 0
        for source in sources:
            for file in source.files:
                for batch in source.batches(file, SHARD_ROWS):
                    if not work.has(len(origins)):
                        work.write(len(origins), *_shard(source, file, batch, row_filter, options))
                    elif not options.drop_malformed:
                        _refuse_malformed(work.summary(len(origins)))
                    origins.append(file)
                    bar.update(before + round(batch.done * file.stat().st_size) - bar.n)
                before += file.stat().st_size
    return origins


def _shard(source: Source, file: Path, batch: Batch, row_filter: Filter, options: PrepareOptions) -> tuple[pa.Table, dict[str, Any]]:
    drops: list[Drop] = []
    rows = batch.attempts()
    examples = list(_read(source, file, batch.first_row, rows, drops, options.drop_malformed))
    judged, dropped = row_filter.apply(examples)
    own = str(file) if options.filter.keep_all else None
    entries = [entry for row in judged for entry in _entries(row, own)]
    summary = {
        "rows": len(rows),
        "traces": sum(len(example.traces) for _, example in examples),
        "drops": [asdict(drop) for drop in (*drops, *dropped)],
        "overlaps": [[row.row, row.overlap.place, row.overlap.detail] for row in judged if row.overlap],
    }
    return pa.Table.from_pylist(entries, schema=ENTRIES), summary


def _read(
    source: Source, file: Path, first: int, rows: list[Row | InputError], drops: list[Drop], drop_malformed: bool
) -> Iterator[tuple[int, Example]]:
    for number, row in enumerate(rows, first):
        try:
            if isinstance(row, InputError):
                raise row
            yield number, source.layout.read(row, f"{file} row {number}")
        except InputError as error:
            if not drop_malformed:
                raise InputError(f"{error}{_DROP_MALFORMED}") from error
            drops.append(Drop(row=number, trace=None, reason=reasons.MALFORMED, detail=str(error)))


def _refuse_malformed(summary: dict[str, Any]) -> None:
    """Refuse a shard that an earlier run made with --drop-malformed, and that lacks rows for it."""
    for drop in summary["drops"]:
        if drop["reason"] == reasons.MALFORMED:
            raise InputError(f"{drop['detail']}{_DROP_MALFORMED}")


def _entries(row: Judged, own: str | None) -> Iterator[dict[str, Any]]:
    """A row's entries; with keys of its ``own`` (its file), so that it merges with no other."""
    example = row.example
    shared = {
        "row": row.row,
        "key": prompt_key(example.question) if own is None else digest(f"{own} {row.row}"),
        "gold": example.gold,
        "overlap": row.overlap.place if row.overlap else "",
        "prompt_length": row.prompt_length,
        "prompt": example.prompt,
        "data_source": example.data_source,
        "ability": example.ability,
    }
    if not row.kept:
        yield shared
    for position in row.kept:
        trace = example.traces[position]
        yield shared | {
            "trace_key": digest(trace.text.strip() if own is None else str(position)),
            "trace_length": row.trace_lengths[position],
            "trace": trace.text,
            "source": trace.source,
            "probs": trace.probabilities,
        }


def _manifest(sources: Sequence[Source], options: PrepareOptions) -> dict[str, Any]:
    files = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for source in sources for file in source.files]
    layouts = [[*source.layout.columns, source.layout.teacher] for source in sources]
    return {
        "input": files,
        "columns and teachers": layouts,
        "filter": asdict(options.filter),
        "rows a shard": SHARD_ROWS,
        **options.settings,
    }


def _refuse_overlap(report: Report, output: Path) -> None:
    count = sum(report.overlaps.values())
    if not count:
        return
    names = ", ".join(f"{name} {count}" for name, count in report.overlaps.items())
    raise InputError(
        f"{count} prompts are in the evaluation sets ({names}), listed in {report_folder(output)}; "
        "pass --on-overlap drop to leave them out, or --on-overlap keep"
    )


def _most_frequent(report: Report) -> str:
    counts = {**report.dropped_rows, **report.dropped_traces}
    if len(counts) > 1:
        counts.pop(reasons.NO_TRACE_LEFT, None)  # why is what is asked
    return (
        ", ".join(f"{name} {counts[name]} ({reasons.MEANINGS[name]})" for name in sorted(counts, key=lambda name: -counts[name])[:3])
        or "no rows in the sources"
    )
