"""The evaluation files: the nine benchmarks from the hub or from local copies, in one layout, with fixed counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from luffy.data import hub, schema
from luffy.data.atomic import replacing
from luffy.data.benchmark_sources import SOURCES, VALIDATION, BenchmarkSource
from luffy.data.files import columns_of, find_files, read_batches
from luffy.data.layout import ABILITY
from luffy.data.sentinels import is_sentinel
from luffy.data.system_prompt import SystemRewriter
from luffy.errors import InputError
from luffy.progress import Bar
from luffy.traces import PROMPT

_ROWS_AT_ONCE = 1024
_OWN_LAYOUT = (PROMPT, schema.REWARD_MODEL, schema.DATA_SOURCE)


def write_evaluation_files(
    names: Sequence[str],
    folder: Path,
    *,
    local: Mapping[str, Path],
    system: SystemRewriter,
    repeats: bool = True,
    validation_only: bool = False,
    seed: int = 0,
) -> dict[Path, int]:
    """Write the evaluation files that hold some benchmarks, and the validation file where all of its own are among them.

    Args:
        names: keys of :data:`~luffy.data.benchmark_sources.SOURCES`.
        folder: where the files go.
        local: local files or folders by benchmark: the hub's columns, or an evaluation file that contains it.
        system: adds the system message.
        repeats: write problems of avg@32 benchmarks 32 times, as the published files do.
        validation_only: write the validation file alone.
        seed: of the order of GPQA's options.

    Returns:
        Rows written, by file.

    Raises:
        InputError: for a benchmark that cannot be fetched, is broken, or has another number of problems than it should;
            the files without such a benchmark are written first.
    """
    contents = _contents(names, repeats, validation_only)
    needed = dict.fromkeys(name for members in contents.values() for name in members)
    problems: dict[str, list[tuple[str, str]]] = {}
    failures = []
    for name in Bar(needed, unit=" benchmarks", desc="read"):
        try:
            problems[name] = _load(SOURCES[name], local.get(name), seed)
        except InputError as error:
            failures.append(str(error))
    written = {
        folder / file: _write(folder / file, {name: problems[name] for name in members}, members, system)
        for file, members in contents.items()
        if members.keys() <= problems.keys()
    }
    if failures:
        others = f" (written: {', '.join(path.name for path in written)})" if written else ""
        raise InputError("; ".join(failures) + others)
    return written


def _contents(names: Sequence[str], repeats: bool, validation_only: bool) -> dict[str, dict[str, int]]:
    """Rows that a problem of each benchmark has, by evaluation file."""
    files: dict[str, dict[str, int]] = {}
    for name in () if validation_only else names:
        files.setdefault(SOURCES[name].file, {})[name] = SOURCES[name].repeats if repeats else 1
    validation = {name: source.validation for name, source in SOURCES.items() if source.validation}
    return files | ({VALIDATION: validation} if validation.keys() <= set(names) else {})


def _load(source: BenchmarkSource, local: Path | None, seed: int) -> list[tuple[str, str]]:
    if local:
        files = find_files(local, source.split, unnamed_is_any=True)
    else:
        files = hub.fetch(source.hub, config=source.config, split=source.split, local_flag=f"--local {source.name}=DIR")
    problems = [problem for file in files for problem in _read(source, file, seed)]
    if len(problems) != source.count:
        raise InputError(
            f"{local or source.hub} has {len(problems)} problems of benchmark '{source.name}', which has "
            f"{source.count}; "
            f"give a whole copy (--local {source.name}=FILE)"
        )
    return problems


def _read(source: BenchmarkSource, file: Path, seed: int) -> Iterator[tuple[str, str]]:
    present = columns_of(file)
    own = all(column in present for column in _OWN_LAYOUT)
    missing = [] if own else [column for column in source.columns if column not in present]
    if missing:
        raise InputError(f"{file} has no column '{missing[0]}' of benchmark '{source.name}'; its columns are {', '.join(present)}")
    seen: set[tuple[str, str]] = set()  # an evaluation file may repeat its problems
    for batch in read_batches(file, _ROWS_AT_ONCE, _OWN_LAYOUT if own else source.columns):
        for number, row in enumerate(batch.rows(), batch.first_row):
            try:
                if own and row[schema.DATA_SOURCE] != source.name:
                    continue
                problem = _own_problem(row) if own else source.read(row, f"{seed}-{number}")
                _require_texts(*problem)
            except (TypeError, KeyError, ValueError, AttributeError, IndexError) as error:
                raise InputError(
                    f"{file} row {number} is no row of benchmark '{source.name}' ({error!r}); mend or fetch it again"
                ) from error
            if not own or problem not in seen:
                yield problem
            seen.add(problem)


def _require_texts(question: Any, gold: Any) -> None:
    if not isinstance(question, str) or not question.strip():
        raise ValueError("no text of a problem")
    if not isinstance(gold, str) or not gold.strip() or is_sentinel(gold):
        raise ValueError(f"no gold answer but {gold!r:.60}")


def _own_problem(row: Mapping[str, Any]) -> tuple[str, str]:
    question = "\n".join(message["content"] for message in row[PROMPT] if message["role"] != "system")
    return question, row[schema.REWARD_MODEL]["ground_truth"]


def _write(
    path: Path,
    problems: Mapping[str, Sequence[tuple[str, str]]],
    repeats: Mapping[str, int],
    system: SystemRewriter,
) -> int:
    rows: list[dict[str, Any]] = []
    for name, each in problems.items():
        for _ in range(repeats[name]):
            rows.extend(_row(name, index, *problem, system) for index, problem in enumerate(each))
    with replacing(path) as temporary:
        table = pa.Table.from_pylist(rows, schema=schema.arrow_schema("eval"))
        pq.write_table(table, temporary, compression="zstd")
    return len(rows)


def _row(name: str, index: int, question: str, gold: str, system: SystemRewriter) -> dict[str, Any]:
    return {
        schema.DATA_SOURCE: name,
        PROMPT: system(({"role": "user", "content": question},), True),
        schema.ABILITY: ABILITY,
        schema.REWARD_MODEL: {"style": "rule", "ground_truth": gold},
        schema.EXTRA_INFO: {"index": index, "split": "test"},
    }
