"""From sources to a training file: the commands' options, then read, filter, keep finished parts, merge, write."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from luffy.command_line import Positive, PositiveNumber, Share, option
from luffy.data import schema
from luffy.data.faults import MALFORMED, MEANINGS, NO_TRACE_LEFT
from luffy.data.judge import Drop, Filter, FilterOptions, Judged, verifier
from luffy.data.lengths import TokenCounter
from luffy.data.merge import MergeOptions, Shards, open_shards, plan_merge, write_merged
from luffy.data.overlap import THRESHOLD, EvaluationPrompts, read_evaluation_prompts
from luffy.data.report import Report, build_report, format_report, list_drops, report_folder, write_report
from luffy.data.rows import Batch
from luffy.data.source import Source, SourceSpec, open_source
from luffy.data.system_prompt import KEEP, system_rewriter
from luffy.digests import key_digest
from luffy.errors import InputError
from luffy.files import replacing, require_new_parquet
from luffy.models import load_tokenizer
from luffy.progress import Bar
from luffy.traces import POLICY_SUCCESS, TARGET_SOURCE, UNKNOWN_SOURCE

logger = logging.getLogger(__name__)

SHARD_ROWS = 256


@dataclass(frozen=True, kw_only=True)
class SetOptions:
    """The command line of a set of prompts with gold answers."""

    source: tuple[str, ...] = option(help="hub names, folders or files (parquet, JSONL, JSON, CSV, Arrow)", aliases=("--dataset_name",))
    output: Path = option(help="the parquet file to write", aliases=("--output_file",))
    config: str | None = option(None, "configuration of a hub data set or a clone of one; default: its own default")
    split: str = option("train", "split of a hub data set or a folder")
    prompt_column: tuple[str, ...] | None = option(
        None, "column of the problem or chat, one for all sources or one each; default: found by name"
    )
    answer_column: tuple[str, ...] | None = option(None, "column of the gold answer (a boxed or #### answer is taken out of a solution)")
    system_prompt: str | None = option(KEEP, "'keep' (bare questions get the project's), 'none', a text, or a text or parquet file with it")
    tokenizer: str | None = option(None, "folder or hub name; without it lengths are not checked")
    max_prompt_length: Positive = option(1024, "tokens of the rendered prompt; the paper's")
    eval_files: tuple[Path, ...] | None = option(
        None, "evaluation sets that must not be trained on; default: data/valid*.parquet beside the output", nargs="*"
    )
    on_overlap: Literal["error", "drop", "keep"] | None = option(
        None, "for prompts that are in an evaluation set; default: error (with --no-filter: keep)"
    )
    overlap_threshold: Share = option(
        THRESHOLD,
        "share of equal characters from which a problem with the same numbers is in an evaluation set; 1 asks for the whole "
        "problem, within other sentences or not",
    )
    drop_malformed: bool = option(False, "leave out rows with values of a wrong type, instead of stopping")
    max_samples: Positive | None = option(None, "write at most this many prompts")
    shuffle: bool = option(False, "write prompts in random order")
    seed: int = option(0, "of the order")
    dry_run: bool = option(False, "write the report alone")
    restart: bool = option(False, "throw away the finished parts of a stopped run with other settings")
    no_verify: bool = option(False, "do not ask the verifier about traces and gold answers")
    keep_unreadable: bool = option(False, "keep rows whose gold answer the verifier cannot read")
    num_workers: Positive = option(os.cpu_count() or 1, "verifier processes; the cores unless given")
    time_limit: PositiveNumber = option(5.0, "seconds a verdict")


@dataclass(frozen=True, kw_only=True)
class TraceOptions:
    """The options of a set whose prompts have traces."""

    trace_column: tuple[str, ...] | None = option(None, "column of the traces: a text, a list of them, or messages")
    teacher: tuple[str, ...] = option((UNKNOWN_SOURCE,), "who wrote the traces, one for all sources or one each")
    max_response_length: Positive = option(8192, "tokens of (trace + EOS); the paper's")
    max_traces: Positive | None = option(None, "keep at most this many traces a prompt")
    no_think_tags: bool = option(False, "accept traces without <think> and </think>")
    no_filter: bool = option(
        False, "write every row and trace as it is, in a training file's columns: nothing is checked, left out or merged"
    )


@dataclass(frozen=True, kw_only=True)
class TrainingSet(SetOptions):
    """The command line of ``prepare_train.py``."""

    traces: TraceOptions


@dataclass(frozen=True, kw_only=True)
class Complement(SetOptions):
    """The command line of ``prepare_train_sft_rl.py``."""

    exclude: Path = option(help="the training set whose prompts are left out")


def prepare_set(options: SetOptions, traces: TraceOptions | None, *, excluded: frozenset[bytes] = frozenset()) -> str:
    """Run a command.

    Args:
        options: what sources become which file.
        traces: what traces its rows have; None for a set without traces.
        excluded: keys of prompts that are left out.

    Returns:
        The report as text, and where everything was written.
    """
    sources = _open_sources(options, traces)
    tokenizer = load_tokenizer(options.tokenizer, named=f"--tokenizer {options.tokenizer}") if options.tokenizer else None
    evaluation = _evaluation_prompts(options)
    think_tags, keep_all = traces is not None and not traces.no_think_tags, traces is not None and traces.no_filter
    filter_options = FilterOptions(
        max_prompt_length=options.max_prompt_length,
        max_response_length=traces.max_response_length if traces else 0,
        think_tags=think_tags,
        traces=traces is not None,
        keep_unreadable=options.keep_unreadable,
        keep_all=keep_all,
    )
    merge = MergeOptions(
        on_overlap=options.on_overlap or ("keep" if keep_all else "error"),
        max_traces=traces.max_traces if traces else None,
        max_samples=options.max_samples,
        shuffle=options.shuffle,
        seed=options.seed,
    )
    settings = {
        "tokenizer": options.tokenizer,
        "system_prompt": options.system_prompt,
        "verify": not options.no_verify,
        "time_limit": options.time_limit,
        "evaluation": evaluation.fingerprint(),
        "excluded": key_digest("".join(sorted(key.hex() for key in excluded))).hex(),
    }
    if traces:
        logger.info(
            "every row is written as it is (--no-filter)"
            if keep_all
            else "rows go through the filter, those of the published set as well; --no-filter writes them as they are"
        )
    pool = verifier(workers=options.num_workers, time_limit_s=options.time_limit, thought_gate=think_tags)
    with contextlib.nullcontext() if options.no_verify or keep_all else pool as verify:
        counter = TokenCounter(tokenizer) if tokenizer else None
        row_filter = Filter(filter_options, counter=counter, verify=verify, evaluation=evaluation, excluded=excluded)
        report = write_training_set(
            sources, options.output, row_filter, merge, settings=settings,
            drop_malformed=options.drop_malformed, dry_run=options.dry_run, restart=options.restart,
        )  # fmt: skip
    written = "dry run, no data written" if options.dry_run else f"data: {options.output}"
    return f"{format_report(report)}\n{written}\nreport: {report_folder(options.output)}"


def _open_sources(options: SetOptions, traces: TraceOptions | None) -> list[Source]:
    count, system = len(options.source), system_rewriter(options.system_prompt or KEEP)
    each = zip(
        options.source,
        _one_each(options.prompt_column, count, "--prompt-column"),
        _one_each(options.answer_column, count, "--answer-column"),
        _one_each(traces.trace_column if traces else None, count, "--trace-column"),
        _one_each(traces.teacher if traces else (UNKNOWN_SOURCE,), count, "--teacher"),
        strict=True,
    )
    return [
        open_source(
            SourceSpec(
                location=location,
                prompt=prompt,
                trace=trace,
                answer=answer,
                teacher=teacher or UNKNOWN_SOURCE,
                config=options.config,
                split=options.split,
            ),
            system=system,
            traces=traces is not None,
        )
        for location, prompt, answer, trace, teacher in each
    ]


def _one_each(values: Sequence[str] | None, count: int, flag: str) -> Sequence[str | None]:
    if values is not None and len(values) not in (1, count):
        raise InputError(f"{flag} was given {len(values)} values for {count} sources; give one for all or one each")
    return [None] * count if values is None else list(values) * count if len(values) == 1 else values


def _evaluation_prompts(options: SetOptions) -> EvaluationPrompts:
    files = options.eval_files
    if files is None:
        files = tuple(sorted(options.output.parent.glob("valid*.parquet")))
    if not files:
        logger.warning("overlap with evaluation sets is not checked: there are no --eval-files (data/prepare_eval.py makes one)")
    return read_evaluation_prompts(files, options.overlap_threshold)


def write_training_set(
    sources: Sequence[Source],
    output: Path,
    row_filter: Filter,
    merge: MergeOptions,
    *,
    settings: dict[str, Any],
    drop_malformed: bool = False,
    dry_run: bool = False,
    restart: bool = False,
) -> Report:
    """Make a training file.

    A run that was killed goes on where it was when it is started again with the same settings. The output appears under
    its name only once it is whole, and is the same to the byte for the same input, settings and seed.

    Args:
        sources: in order; the first one that has a problem gives its prompt.
        output: the parquet file.
        row_filter: the filter, with its tokenizer and verifier.
        merge: how rows become the output.
        settings: what else the filter's result depends on (tokenizer, verifier, evaluation files, system prompt).
        drop_malformed: leave out rows whose values have the wrong type, instead of refusing the source.
        dry_run: write the report alone.
        restart: throw finished parts of a run with other settings away.

    Returns:
        The report, which is also written beside the output.

    Raises:
        InputError: where the output is no new parquet file, a source is broken, nothing is left, or prompts are in an
            evaluation set against the options.
    """
    files = [file for source in sources for file in source.files]
    require_new_parquet(output, files)
    parameters = {
        "input": [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files],
        "columns and teachers": [[*source.layout.columns, source.layout.teacher] for source in sources],
        "filter": asdict(row_filter.options),
        "rows a shard": SHARD_ROWS,
        **settings,
    }
    with open_shards(output, parameters, restart=restart) as shards:
        _filter_into(shards, sources, row_filter, drop_malformed)
        plan = plan_merge(shards, merge)
        report = build_report(shards, plan, unit=row_filter.unit, hub_names=[source.hub_name for source in sources if source.hub_name])
        write_report(report, list_drops(shards, plan), report_folder(output))
        if merge.on_overlap == "error" and report.overlaps:
            raise InputError(
                f"{sum(report.overlaps.values())} prompts are in the evaluation sets ({_listed(report.overlaps)}), listed in "
                f"{report_folder(output)}; pass --on-overlap drop to leave them out, or --on-overlap keep"
            )
        if not plan.rows:
            shards.remove()  # other settings are needed, and nothing of this is of use to them
            raise InputError(f"no row is left for {output}: {_most_frequent(report)}; {report_folder(output)} lists them")
        if not dry_run:
            with replacing(output) as path:
                write_merged(shards, plan, path, split="train")
        shards.remove()
    return report


def _filter_into(shards: Shards, sources: Sequence[Source], row_filter: Filter, drop_malformed: bool) -> None:
    """Filter every batch that is not done yet."""
    number, before = 0, 0
    files = [(source, file) for source in sources for file in source.files]
    with Bar(total=sum(file.stat().st_size for _, file in files), unit="B", unit_scale=True, desc="filter") as bar:
        for source, file in files:
            for batch in source.batches(file, SHARD_ROWS):
                if number not in shards:
                    _filter_batch(shards, number, source, file, batch, row_filter, drop_malformed)
                elif not drop_malformed:
                    _refuse_malformed(shards.summary(number)["drops"])
                number += 1
                bar.update(before + round(batch.done * file.stat().st_size) - bar.n)
            before += file.stat().st_size


def _filter_batch(shards: Shards, number: int, source: Source, file: Path, batch: Batch, row_filter: Filter, drop_malformed: bool) -> None:
    read = list(source.examples(file, batch))
    malformed = [Drop(row=row, reason=MALFORMED, detail=str(error)) for row, error in read if isinstance(error, InputError)]
    if not drop_malformed:
        _refuse_malformed(map(asdict, malformed))
    examples = [(row, example) for row, example in read if not isinstance(example, InputError)]
    rows, dropped = row_filter.apply(examples)
    own = str(file) if row_filter.options.keep_all else None
    summary = {
        "file": str(file),
        "rows": len(read),
        "traces": sum(len(example.traces) for _, example in examples),
        "drops": [asdict(drop) for drop in (*malformed, *dropped)],
        "overlaps": [(row.number, row.overlap.place, row.overlap.detail) for row in rows if row.overlap],
    }
    shards.write(number, [entry for row in rows for entry in _entries(row, own)], summary)


def _refuse_malformed(drops: Iterable[dict[str, Any]]) -> None:
    """Refuse rows that are left out with --drop-malformed alone, also in a shard that an earlier run made with it."""
    for drop in drops:
        if drop["reason"] == MALFORMED:
            raise InputError(f"{drop['detail']} (--drop-malformed leaves such rows out)")


def _entries(row: Judged, own: str | None) -> Iterator[dict[str, Any]]:
    """A row's entries; with keys of its ``own`` (its file), so that it merges with no other."""
    shared = {
        "row": row.number,
        "key": row.key if own is None else key_digest(f"{own} {row.number}"),
        "gold": row.gold,
        "overlap": row.overlap.place if row.overlap else "",
        "prompt_length": row.prompt_length,
        "prompt": row.messages,
        "data_source": row.data_source,
        "ability": row.columns[schema.ABILITY],
        "policy_success": row.columns[POLICY_SUCCESS],
    }
    if not row.kept:
        yield shared
    for position in row.kept:
        yield shared | {
            "trace_key": key_digest(row.text(position).strip() if own is None else str(position)),
            "trace_length": row.trace_lengths[position],
            "trace": row.text(position),
            "source": row.columns[TARGET_SOURCE][position],
            "probs": row.probabilities(position),
        }


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _most_frequent(report: Report) -> str:
    counts = {**report.dropped_rows, **report.dropped_traces}
    if len(counts) > 1:
        counts.pop(NO_TRACE_LEFT, None)  # why is what is asked
    return (
        ", ".join(f"{name} {counts[name]} ({MEANINGS[name]})" for name in sorted(counts, key=lambda name: -counts[name])[:3])
        or "no rows in the sources"
    )
