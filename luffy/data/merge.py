"""Finished parts of a run, and how their rows of the same problem become one row with several traces, in a fixed order and in bounded
memory.

The parts lie beside the output, so that a killed run goes on where it was.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from luffy.data import faults, schema
from luffy.errors import InputError
from luffy.files import hold, replacing
from luffy.progress import Bar
from luffy.traces import POLICY_SUCCESS, PROMPT, TARGET, TARGET_PROBS, TARGET_SOURCE

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
        ("policy_success", pa.float64()),
        ("trace", pa.string()),
        ("source", pa.string()),
        ("probs", pa.list_(pa.float32())),
    ]
)
_ZSTD = pa.ipc.IpcWriteOptions(compression="zstd")
_ENTRIES_AT_ONCE = 4096  # of about 40 kB: what memory holds while the output is written
_KEYS = ("row", "key", "trace_key", "gold", "overlap", "prompt_length", "trace_length", "source", "policy_success")
_ROW_GROUP = 512


@dataclass(frozen=True)
class Shards:
    """Numbered parts of a run, each an Arrow file of entries with a summary of JSON values; a file that is there is whole.

    Not read by ``datasets`` (``concatenate_datasets(...).select(order)``): it maps the files, and what was touched stays resident
    (355 MiB for 323 MiB of shards), so that 46 000 rows of 8 000 tokens would pass 2 GiB; read as here they hold 0.45 GiB.

    Attributes:
        folder: where they lie.
        parameters: all that they depend on, as JSON values.
    """

    folder: Path
    parameters: dict[str, Any]

    def __contains__(self, shard: int) -> bool:
        return self._file(shard).exists()

    def __len__(self) -> int:
        return len(list(self.folder.glob("part-*.arrow")))

    def write(self, shard: int, entries: Sequence[dict[str, Any]], summary: dict[str, Any]) -> None:
        """Write a shard, whole or not at all."""
        table = pa.Table.from_pylist(entries, schema=ENTRIES.with_metadata({"summary": json.dumps(summary)}))
        with replacing(self._file(shard)) as path, pa.ipc.new_file(path, table.schema, options=_ZSTD) as writer:
            writer.write_table(table)

    def summary(self, shard: int) -> dict[str, Any]:
        """A shard's summary."""
        with pa.OSFile(str(self._file(shard))) as source:
            return json.loads(pa.ipc.open_file(source).schema.metadata[b"summary"])

    def columns(self, shard: int, names: Sequence[str]) -> list[dict[str, Any]]:
        """Some columns of a shard's entries."""
        fields = [ENTRIES.get_field_index(name) for name in names]
        return self._read(shard, pa.ipc.IpcReadOptions(included_fields=fields)).to_pylist()

    def entries(self, places: Iterable[tuple[int, int]]) -> Iterator[dict[str, Any]]:
        """The entries at some (shard, position), in that order; each shard is read once for some thousand of them."""
        left = iter(places)
        while some := list(itertools.islice(left, _ENTRIES_AT_ONCE)):
            by_shard: dict[int, list[int]] = {}
            for number, (shard, _) in enumerate(some):
                by_shard.setdefault(shard, []).append(number)
            found: dict[int, dict[str, Any]] = {}
            for shard, numbers in by_shard.items():
                taken = self._read(shard).take(pa.array([some[number][1] for number in numbers]))
                found.update(zip(numbers, taken.to_pylist(), strict=True))
            yield from map(found.pop, range(len(some)))

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder)

    def _read(self, shard: int, options: pa.ipc.IpcReadOptions | None = None) -> pa.Table:
        with pa.OSFile(str(self._file(shard))) as source:
            return pa.ipc.open_file(source, options=options).read_all()

    def _file(self, shard: int) -> Path:
        return self.folder / f"part-{shard:06d}.arrow"


@contextlib.contextmanager
def open_shards(output: Path, parameters: dict[str, Any], *, restart: bool = False) -> Iterator[Shards]:
    """The shards of a run in ``<output>.partial``, locked, so that two runs never write the same output.

    Args:
        output: the file that the run will write.
        parameters: all that shards depend on, as JSON values.
        restart: throw shards of other parameters away.

    Raises:
        InputError: where another run holds the folder, or its shards were made with other parameters.
    """
    shards = Shards(output.with_name(output.name + ".partial"), json.loads(json.dumps(parameters)))
    busy = f"another run is writing {shards.folder}; wait for it or choose another output"
    with os.fdopen(hold(shards.folder / "lock", busy), "w"):
        _match_manifest(shards, restart)
        yield shards


def _match_manifest(shards: Shards, restart: bool) -> None:
    manifest = shards.folder / "manifest.json"
    before = json.loads(manifest.read_text(encoding="utf-8")) if manifest.exists() else None
    if before == shards.parameters:
        return
    if before is not None and 0 in shards and not restart:
        names = sorted(before.keys() | shards.parameters.keys())
        changed = ", ".join(name for name in names if before.get(name) != shards.parameters.get(name))
        raise InputError(
            f"{shards.folder} holds a run with other settings ({changed}); run it with those to go on, or pass --restart to begin anew"
        )
    for old in shards.folder.glob("part-*"):
        old.unlink()
    with replacing(manifest) as path:
        path.write_text(json.dumps(shards.parameters, indent=1), encoding="utf-8")


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


@dataclass
class _Prompt:
    gold: str
    length: int
    places: list[tuple[int, int]] = field(default_factory=list)
    traces: dict[bytes, tuple[int, str]] = field(default_factory=dict)  # length and teacher of each


@dataclass(kw_only=True)
class MergePlan:
    """Which entries of the shards make which row of the output.

    Attributes:
        rows: the (shard, position) of the entries of each row.
        merged: source rows whose traces joined those of an earlier row.
        dropped_rows: source rows left out, by reason.
        dropped_traces: traces left out, by reason, those of dropped rows included.
        drops: (shard, row in the file, reason) of each dropped row or trace.
        prompt_lengths: of the output's rows.
        trace_lengths: of the output's traces.
        teachers: traces of the output by teacher.
        traces_per_row: output rows by their number of traces.
        known: columns of the output that are not always written: those of which some row says something.
    """

    rows: list[list[tuple[int, int]]] = field(default_factory=list)
    merged: int = 0
    dropped_rows: Counter[str] = field(default_factory=Counter)
    dropped_traces: Counter[str] = field(default_factory=Counter)
    drops: list[tuple[int, int, str]] = field(default_factory=list)
    prompt_lengths: list[int] = field(default_factory=list)
    trace_lengths: list[int] = field(default_factory=list)
    teachers: Counter[str] = field(default_factory=Counter)
    traces_per_row: Counter[int] = field(default_factory=Counter)
    known: set[str] = field(default_factory=set)

    def drop_row(self, shard: int, row: int, reason: str, traces: int) -> None:
        """Count a source row that is left out, with its traces."""
        self.dropped_rows[reason] += 1
        self.dropped_traces[reason] += traces
        self.drops.append((shard, row, reason))


def plan_merge(shards: Shards, options: MergeOptions) -> MergePlan:
    """Decide what the output holds, from the shards' keys alone."""
    plan = MergePlan()
    prompts: dict[bytes, _Prompt] = {}
    for shard in range(len(shards)):
        entries = enumerate(shards.columns(shard, _KEYS))
        for row, places in itertools.groupby(entries, key=lambda entry: entry[1]["row"]):
            _place(plan, prompts, options, (shard, row), list(places))
    order = np.random.default_rng(options.seed).permutation(len(prompts)) if options.shuffle else np.arange(len(prompts))
    ranked = [prompt for _, prompt in sorted(zip(order.tolist(), prompts.values(), strict=True), key=lambda pair: pair[0])]
    for prompt in ranked[options.max_samples :] if options.max_samples is not None else ():
        plan.dropped_rows[faults.BEYOND_MAX_SAMPLES] += 1
        plan.dropped_traces[faults.BEYOND_MAX_SAMPLES] += len(prompt.traces)
    for prompt in ranked[: options.max_samples]:
        plan.rows.append(prompt.places)
        plan.prompt_lengths.append(prompt.length)
        plan.trace_lengths.extend(length for length, _ in prompt.traces.values())
        plan.teachers.update(teacher for _, teacher in prompt.traces.values())
        plan.traces_per_row[len(prompt.traces)] += 1
    return plan


def _place(
    plan: MergePlan,
    prompts: dict[bytes, _Prompt],
    options: MergeOptions,
    where: tuple[int, int],
    entries: Sequence[tuple[int, dict[str, Any]]],
) -> None:
    """Add one source row to its prompt."""
    (shard, row), (position, first) = where, entries[0]
    traced = [(place, entry) for place, entry in entries if entry["trace_key"] is not None]
    known = prompts.get(first["key"])
    if first["overlap"] and options.on_overlap != "keep":
        return plan.drop_row(shard, row, faults.OVERLAP, len(traced))
    if known is not None and known.gold != first["gold"]:
        return plan.drop_row(shard, row, faults.CONFLICTING_ANSWER, len(traced))
    prompt = prompts.setdefault(first["key"], _Prompt(first["gold"], first["prompt_length"]))
    if first["policy_success"] is not None:
        plan.known.add(POLICY_SUCCESS)
    if not traced and known is None:
        prompt.places.append((shard, position))
    before = len(prompt.traces)
    for place, entry in traced:
        full = options.max_traces is not None and len(prompt.traces) >= options.max_traces
        reason = faults.DUPLICATE_TRACE if entry["trace_key"] in prompt.traces else faults.BEYOND_MAX_TRACES if full else None
        if reason:
            plan.dropped_traces[reason] += 1
            plan.drops.append((shard, row, reason))
            continue
        prompt.traces[entry["trace_key"]] = (entry["trace_length"], entry["source"])
        prompt.places.append((shard, place))
    if known is not None and len(prompt.traces) > before:
        plan.merged += 1
    elif known is not None:
        plan.drop_row(shard, row, faults.DUPLICATE_PROMPT, 0)
    return None


def write_merged(shards: Shards, plan: MergePlan, path: Path, *, split: str) -> None:
    """Write the training file that a plan describes; memory holds some thousand entries, whatever the order of the sources is."""
    columns = schema.arrow_schema("train", known=plan.known)
    entries = shards.entries(itertools.chain.from_iterable(plan.rows))
    with pq.ParquetWriter(path, columns, compression="zstd", use_dictionary=False) as writer:
        for start in Bar(range(0, len(plan.rows), _ROW_GROUP), desc="write", unit="block"):
            group = plan.rows[start : start + _ROW_GROUP]
            rows = [_row(list(itertools.islice(entries, len(places))), start + i, split) for i, places in enumerate(group)]
            writer.write_table(pa.Table.from_pylist(rows, schema=columns))


def _row(entries: Sequence[dict[str, Any]], index: int, split: str) -> dict[str, Any]:
    first = entries[0]
    traced = [entry for entry in entries if entry["trace"] is not None]
    return {
        schema.DATA_SOURCE: first["data_source"],
        PROMPT: first["prompt"],
        TARGET: [{"role": "assistant", "content": entry["trace"]} for entry in traced] or None,
        TARGET_SOURCE: [entry["source"] for entry in traced] or None,
        TARGET_PROBS: [entry["probs"] for entry in traced] if any(entry["probs"] for entry in traced) else None,
        POLICY_SUCCESS: next((entry["policy_success"] for entry in entries if entry["policy_success"] is not None), None),
        schema.ABILITY: first["ability"],
        schema.REWARD_MODEL: {"style": "rule", "ground_truth": first["gold"]},
        schema.EXTRA_INFO: {"index": index, "split": split},
    }
