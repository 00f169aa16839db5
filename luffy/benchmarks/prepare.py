"""The evaluation files: the benchmarks from the hub or from local copies, or a set of the user's own, in one layout, their counts checked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from luffy import hub
from luffy.benchmarks import BENCHMARKS, Benchmark, Problem, plain_name
from luffy.data import schema
from luffy.data.files import find_files
from luffy.data.gold import is_sentinel
from luffy.data.layout import ABILITY
from luffy.data.rows import columns_of, read_batches
from luffy.data.source import SourceSpec, open_source
from luffy.data.system_prompt import SystemRewriter
from luffy.errors import InputError
from luffy.files import replacing, require_new_parquet
from luffy.progress import Bar
from luffy.traces import PROMPT, TARGET

VALIDATION = "valid.parquet"  # what a training validates on, every few steps
PREPARED = {entry.name: entry for entry in BENCHMARKS if entry.hub}
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
TAKEN = re.compile(r"valid(\..*)?|openr1.*|sft.*|complement.*", re.IGNORECASE)  # the project's own files
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
        names: keys of :data:`PREPARED`.
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
    problems: dict[str, list[Problem]] = {}
    failures = []
    for name in Bar(needed, unit=" benchmarks", desc="read"):
        try:
            problems[name] = _problems(PREPARED[name], local.get(name), seed)
        except InputError as error:
            failures.append(str(error))
    written = {}
    for file, members in contents.items():
        if members.keys() <= problems.keys():
            rows = [
                _row(name, index, system(({"role": "user", "content": question},), True), gold)
                for name, repeated in members.items()
                for _ in range(repeated)
                for index, (question, gold) in enumerate(problems[name])
            ]
            written[folder / file] = _write(folder / file, rows)
    if failures:
        others = f" (written: {', '.join(path.name for path in written)})" if written else ""
        raise InputError("; ".join(failures) + others)
    return written


def write_own_set(spec: SourceSpec, folder: Path, *, name: str, system: SystemRewriter) -> tuple[Path, int]:
    """Write an evaluation file of own problems, ``NAME.parquet``.

    Args:
        spec: the problems with their gold answers, in any layout that training data may have.
        folder: where the file goes.
        name: of the file, and ``data_source`` of the rows that have none; those that have one keep it.
        system: adds the system message.

    Returns:
        The file and its rows.

    Raises:
        InputError: for a name that is another set's, also a training set's, or rows without a problem or a gold answer.
    """
    path = folder / f"{name}.parquet"
    _check_name(name, path)
    source = open_source(spec, system=system, traces=False)
    require_new_parquet(path, source.files)
    named = schema.DATA_SOURCE in source.layout.optional
    rows: list[dict[str, Any]] = []
    empty: list[str] = []
    for file in source.files:
        for batch in source.batches(file, _ROWS_AT_ONCE):
            for number, row in enumerate(batch.rows(), batch.first_row):
                where = f"{file} row {number}"
                example = source.layout.read(row, where)
                asked = any(each["role"] == "user" and each["content"].strip() for each in example.prompt)
                if not (asked and example.gold.strip()):
                    empty.append(where)
                rows.append(_row(example.data_source if named else name, len(rows), list(example.prompt), example.gold, example.ability))
    if empty or not rows:
        first = empty[0] if empty else spec.location
        raise InputError(f"{first}: no problem or no gold answer ({len(empty)} of {len(rows)} rows); mend or remove them")
    return path, _write(path, rows)


def _contents(names: Sequence[str], repeats: bool, validation_only: bool) -> dict[str, dict[str, int]]:
    """Rows that a problem of each benchmark has, by evaluation file."""
    files: dict[str, dict[str, int]] = {}
    for name in () if validation_only else names:
        files.setdefault(PREPARED[name].file, {})[name] = PREPARED[name].samples if repeats else 1
    validation = {name: entry.validation for name, entry in PREPARED.items() if entry.validation}
    return files | ({VALIDATION: validation} if validation.keys() <= set(names) else {})


def _problems(entry: Benchmark, local: Path | None, seed: int) -> list[Problem]:
    if local:
        files = find_files(local, entry.split, unnamed_is_any=True)
    else:
        files = hub.fetch_data(entry.hub, config=entry.config, split=entry.split, local_flag=f"--local {entry.name}=DIR")
    problems = [problem for file in files for problem in _read(entry, file, seed)]
    if len(problems) != entry.problems:
        raise InputError(
            f"{local or entry.hub} has {len(problems)} problems of benchmark '{entry.name}', which has {entry.problems}; "
            f"give a whole copy (--local {entry.name}=FILE)"
        )
    return problems


def _read(entry: Benchmark, file: Path, seed: int) -> Iterator[Problem]:
    present = columns_of(file)
    own = all(column in present for column in _OWN_LAYOUT)
    missing = [] if own else [column for column in entry.columns if column not in present]
    if missing:
        raise InputError(f"{file} has no column '{missing[0]}' of benchmark '{entry.name}'; its columns are {', '.join(present)}")
    seen: set[Problem] = set()  # an evaluation file may repeat its problems
    for batch in read_batches(file, _ROWS_AT_ONCE, _OWN_LAYOUT if own else entry.columns):
        for number, row in enumerate(batch.rows(), batch.first_row):
            try:
                if own and row[schema.DATA_SOURCE] != entry.name:
                    continue
                problem = _own_problem(row) if own else entry.read(*(row[column] for column in entry.columns), seed=f"{seed}-{number}")
                _require_texts(*problem)
            except (TypeError, KeyError, ValueError, AttributeError, IndexError) as error:
                raise InputError(
                    f"{file} row {number} is no row of benchmark '{entry.name}' ({error!r}); mend or fetch it again"
                ) from error
            if not own or problem not in seen:
                yield problem
            seen.add(problem)


def _own_problem(row: Mapping[str, Any]) -> Problem:
    question = "\n".join(message["content"] for message in row[PROMPT] if message["role"] != "system")
    return question, row[schema.REWARD_MODEL]["ground_truth"]


def _require_texts(question: Any, gold: Any) -> None:
    if not isinstance(question, str) or not question.strip():
        raise ValueError("no text of a problem")
    if not isinstance(gold, str) or not gold.strip() or is_sentinel(gold):
        raise ValueError(f"no gold answer but {gold!r:.60}")


def _check_name(name: str, path: Path) -> None:
    if not NAME.fullmatch(name):
        raise InputError(f"--name {name!r}: give letters, digits, '.', '_' and '-'; it names the file and the table's column")
    known = next((each.title for each in BENCHMARKS if plain_name(name) in each.spellings), None)
    if known or TAKEN.fullmatch(name):
        raise InputError(f"--name {name}: is the name of {known or 'a file of the project'}; give your set another")
    if path.exists() and TARGET in columns_of(path):
        raise InputError(f"--name {name}: {path} is a training set, which would be lost; give your held-out set another name")


def _row(data_source: str, index: int, prompt: Any, gold: str, ability: str = ABILITY) -> dict[str, Any]:
    return {
        schema.DATA_SOURCE: data_source,
        PROMPT: prompt,
        schema.ABILITY: ability,
        schema.REWARD_MODEL: {"style": "rule", "ground_truth": gold},
        schema.EXTRA_INFO: {"index": index, "split": "test"},
    }


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> int:
    with replacing(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema.arrow_schema("eval")), temporary, compression="zstd")
    return len(rows)
