"""Rows of the same problem become one row with several traces, in a fixed order and in bounded memory."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from luffy.data import reasons, schema
from luffy.data.work_folder import WorkFolder
from luffy.progress import Bar
from luffy.traces import PROMPT, TARGET, TARGET_PROBS, TARGET_SOURCE

# One entry a kept trace; a row without traces has one entry whose trace is null.
ENTRIES = pa.schema(
    [
        ("row", pa.int64()),
        ("key", pa.binary(16)),
        ("trace_key", pa.binary(16)),
        ("gold", pa.string()),
        ("overlap", pa.string()),
        ("prompt_length", pa.int32()),
        ("trace_length", pa.int32()),
        ("prompt", schema.CHAT),
        ("data_source", pa.string()),
        ("ability", pa.string()),
        ("trace", pa.string()),
        ("source", pa.string()),
        ("probs", pa.list_(pa.float32())),
    ]
)
_KEYS = ("row", "key", "trace_key", "gold", "overlap", "prompt_length", "trace_length", "source")

_BLOCK_PROMPTS = 1024
_MAX_BLOCKS = 400  # files open at once
_ROW_GROUP = 512


@dataclass(frozen=True, kw_only=True)
class MergeOptions:
    """How rows become the output.

    Attributes:
        on_overlap: for prompts that are in the evaluation sets: "error", "drop" or "keep".
        max_traces: traces a prompt, the first ones; None keeps all.
        max_samples: prompts in all, the first ones after shuffling; None keeps all.
        shuffle: write prompts in a random order instead of the sources' order.
        seed: of that order.
    """

    on_overlap: str = "error"
    max_traces: int | None = None
    max_samples: int | None = None
    shuffle: bool = False
    seed: int = 0


@dataclass(kw_only=True)
class MergePlan:
    """Where every entry of every shard goes.

    Attributes:
        ranks: for each shard, the output row of each entry, or -1.
        rows: rows of the output.
        merged: source rows whose traces joined those of an earlier row.
        dropped_rows: source rows left out, by reason.
        dropped_traces: traces left out, by reason, those of dropped rows included.
        drops: (shard, row in the file, reason) of each dropped row or trace.
        prompt_lengths: of the output's rows.
        trace_lengths: of the output's traces.
        teachers: traces of the output by teacher.
        traces_per_row: output rows by their number of traces.
    """

    ranks: list[np.ndarray] = field(default_factory=list)
    rows: int = 0
    merged: int = 0
    dropped_rows: Counter[str] = field(default_factory=Counter)
    dropped_traces: Counter[str] = field(default_factory=Counter)
    drops: list[tuple[int, int, str]] = field(default_factory=list)
    prompt_lengths: list[int] = field(default_factory=list)
    trace_lengths: list[int] = field(default_factory=list)
    teachers: Counter[str] = field(default_factory=Counter)
    traces_per_row: Counter[int] = field(default_factory=Counter)


@dataclass
class _Prompt:
    rank: int
    gold: str
    length: int
    entries: list[tuple[int, int]] = field(default_factory=list)
    traces: dict[bytes, tuple[int, str]] = field(default_factory=dict)


def plan_merge(work: WorkFolder, shards: int, options: MergeOptions) -> MergePlan:
    """Decide what the output holds, from the shards' keys alone."""
    plan, prompts = MergePlan(), {}
    for shard in range(shards):
        keys = work.read(shard, _KEYS).to_pylist()
        plan.ranks.append(np.full(len(keys), -1, dtype=np.int64))
        numbered = enumerate(keys)
        for row, entries in itertools.groupby(numbered, key=lambda pair: pair[1]["row"]):
            _place(plan, prompts, options, shard, row, list(entries))
    _rank(plan, list(prompts.values()), options)
    return plan


def _place(
    plan: MergePlan,
    prompts: dict[bytes, _Prompt],
    options: MergeOptions,
    shard: int,
    row: int,
    entries: list[tuple[int, dict[str, Any]]],
) -> None:
    """Add one source row to its prompt."""
    first = entries[0][1]
    traced = [(position, entry) for position, entry in entries if entry["trace_key"] is not None]
    known = prompts.get(first["key"])
    if first["overlap"] and options.on_overlap != "keep":
        return _drop_row(plan, shard, row, reasons.OVERLAP, len(traced))
    if known is not None and known.gold != first["gold"]:
        return _drop_row(plan, shard, row, reasons.CONFLICTING_ANSWER, len(traced))
    prompt = prompts.setdefault(first["key"], _Prompt(len(prompts), first["gold"], first["prompt_length"]))
    if not traced and known is None:
        prompt.entries.append((shard, entries[0][0]))
    added = 0
    for position, entry in traced:
        reason = _trace_fault(prompt, entry["trace_key"], options)
        if reason:
            plan.dropped_traces[reason] += 1
            plan.drops.append((shard, row, reason))
            continue
        prompt.traces[entry["trace_key"]] = (entry["trace_length"], entry["source"])
        prompt.entries.append((shard, position))
        added += 1
    if known is not None and added:
        plan.merged += 1
    elif known is not None:
        _drop_row(plan, shard, row, reasons.DUPLICATE_PROMPT, 0)
    return None


def _trace_fault(prompt: _Prompt, key: bytes, options: MergeOptions) -> str | None:
    if key in prompt.traces:
        return reasons.DUPLICATE_TRACE
    full = options.max_traces is not None and len(prompt.traces) >= options.max_traces
    return reasons.BEYOND_MAX_TRACES if full else None


def _drop_row(plan: MergePlan, shard: int, row: int, reason: str, traces: int) -> None:
    plan.dropped_rows[reason] += 1
    plan.dropped_traces[reason] += traces
    plan.drops.append((shard, row, reason))


def _rank(plan: MergePlan, prompts: list[_Prompt], options: MergeOptions) -> None:
    order = np.random.default_rng(options.seed).permutation(len(prompts)) if options.shuffle else np.arange(len(prompts))
    plan.rows = len(prompts) if options.max_samples is None else min(len(prompts), options.max_samples)
    for prompt, rank in zip(prompts, order.tolist(), strict=True):
        if rank >= plan.rows:
            plan.dropped_rows[reasons.BEYOND_MAX_SAMPLES] += 1
            plan.dropped_traces[reasons.BEYOND_MAX_SAMPLES] += len(prompt.traces)
            continue
        for shard, position in prompt.entries:
            plan.ranks[shard][position] = rank
        plan.prompt_lengths.append(prompt.length)
        plan.trace_lengths.extend(length for length, _ in prompt.traces.values())
        plan.teachers.update(source for _, source in prompt.traces.values())
        plan.traces_per_row[len(prompt.traces)] += 1


def write_merged(work: WorkFolder, plan: MergePlan, path: Path, *, split: str) -> None:
    """Write the training file that a plan describes.

    Entries are first dealt into blocks of neighbouring output rows, then each block is sorted and written, so that
    every byte is read twice and memory holds one block, whatever the order of the sources is.
    """
    size = max(_BLOCK_PROMPTS, -(-plan.rows // _MAX_BLOCKS))
    blocks = [work.path / f"block-{number:04d}.arrow" for number in range(-(-plan.rows // size))]
    entries = pa.schema([*ENTRIES, ("rank", pa.int64())])
    _deal(work, plan, blocks, entries, size)
    columns = schema.arrow_schema("train")
    with pq.ParquetWriter(path, columns, compression="zstd", use_dictionary=False) as writer:
        for block in Bar(blocks, desc="write", unit="block"):
            table = pa.ipc.open_stream(block.read_bytes()).read_all()
            groups = itertools.groupby(_sorted(table), key=lambda entry: entry["rank"])
            rows = (_row(list(group), split) for _, group in groups)
            while part := list(itertools.islice(rows, _ROW_GROUP)):
                writer.write_table(pa.Table.from_pylist(part, schema=columns))
            block.unlink()


def _deal(work: WorkFolder, plan: MergePlan, blocks: list[Path], entries: pa.Schema, size: int) -> None:
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(pa.ipc.new_stream(str(block), entries, options=options)) for block in blocks]
        for shard, ranks in enumerate(Bar(plan.ranks, desc="merge", unit="shard")):
            table = work.read(shard).append_column("rank", pa.array(ranks))
            for number in np.unique(ranks[ranks >= 0] // size):
                writers[number].write_table(table.take(np.flatnonzero((ranks >= 0) & (ranks // size == number))))


def _sorted(table: pa.Table) -> Iterator[dict[str, Any]]:
    order = np.argsort(table.column("rank").to_numpy(), kind="stable")
    for start in range(0, len(order), _ROW_GROUP):
        yield from table.take(order[start : start + _ROW_GROUP]).to_pylist()


def _row(entries: list[dict[str, Any]], split: str) -> dict[str, Any]:
    first = entries[0]
    traced = [entry for entry in entries if entry["trace"] is not None]
    return {
        schema.DATA_SOURCE: first["data_source"],
        PROMPT: first["prompt"],
        TARGET: [{"role": "assistant", "content": entry["trace"]} for entry in traced] or None,
        TARGET_SOURCE: [entry["source"] for entry in traced] or None,
        TARGET_PROBS: [entry["probs"] for entry in traced] if any(entry["probs"] for entry in traced) else None,
        schema.ABILITY: first["ability"],
        schema.REWARD_MODEL: {"style": "rule", "ground_truth": first["gold"]},
        schema.EXTRA_INFO: {"index": first["rank"], "split": split},
    }
