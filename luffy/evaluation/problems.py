"""How a file of problems is read."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luffy.benchmarks import benchmark, namesake
from luffy.data.files import columns_of, find_files, read_batches
from luffy.data.sentinels import is_sentinel
from luffy.errors import InputError
from luffy.rewards.settle import gold_answers

logger = logging.getLogger(__name__)

_ROWS_AT_ONCE = 1024
COLUMNS = ("data_source", "prompt", "reward_model")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One distinct problem of a file.

    Attributes:
        index: its position among the distinct problems of the file, in order of first appearance.
        key: a digest of benchmark, messages and gold answer; the same problem has it in every file.
        benchmark: the row's ``data_source``.
        messages: the prompt as ``{"role", "content"}`` messages.
        gold: the reference answer, or a list of those that are accepted.
        repeats: how many of the rows that were read hold this problem (32 in a file made for avg@32).
        of: how many distinct problems its benchmark has in the whole file.
    """

    index: int
    key: str
    benchmark: str
    messages: tuple[dict[str, str], ...]
    gold: Any
    repeats: int
    of: int


def load_problems(path: str | Path, *, limit: int | None = None) -> list[Problem]:
    """Read the problems of an evaluation file.

    Args:
        path: a parquet file (or JSON, CSV, Arrow) with the columns ``data_source``, ``prompt`` (a list of chat messages) and ``reward_model``
            (with ``ground_truth``).
        limit: take the problems of this many rows only.

    Returns:
        The distinct problems in order of first appearance. Rows that repeat a problem are counted in its ``repeats``.

    Raises:
        InputError: where the file or a column is missing, or a row has no prompt or no gold answer.
    """
    counts: Counter[tuple[str, str, str]] = Counter()
    everything: set[tuple[str, str, str]] = set()
    for number, row in enumerate(_rows(Path(path))):
        identity = _identity(row, f"{path}: row {number}")
        everything.add(identity)
        if limit is None or number < limit:
            counts[identity] += 1
    if not counts:
        raise InputError(f"{path}: the file has no rows")
    hopeless = [gold for *_, gold in counts if is_sentinel(gold.strip('"'))]
    if hopeless:
        logger.warning("%s: %d gold answers stand for none, such as %s: nothing will be right", path, len(hopeless), hopeless[0])
    whole = Counter(source for source, _, _ in everything)
    return [
        Problem(
            index=index,
            key=hashlib.sha256("\0".join(identity).encode()).hexdigest()[:16],
            benchmark=identity[0],
            messages=tuple(json.loads(identity[1])),
            gold=json.loads(identity[2]),
            repeats=repeats,
            of=whole[identity[0]],
        )
        for index, (identity, repeats) in enumerate(counts.items())
    ]


def describe(problems: Sequence[Problem], n: int) -> list[str]:
    """One line a benchmark: its problems, rows and samples, and whether a table will call it otherwise than one expects."""
    lines = []
    for name in dict.fromkeys(problem.benchmark for problem in problems):
        found = [problem for problem in problems if problem.benchmark == name]
        repeats = [problem.repeats for problem in found]
        each = str(n * repeats[0]) if len(set(repeats)) == 1 else f"{n * min(repeats)} to {n * max(repeats)}"
        known, other = benchmark(name, problems=found[0].of), namesake(name)
        lines.append(f"{known.title}: {len(repeats)} problems, {each} samples of each, {n * sum(repeats)} in all")
        if other is not None and known.group != other.group:
            lines[-1] += f" (not the {other.problems} problems of {other.title}, so it stays '{name}' in tables)"
    return lines


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; --input_file names a parquet file of problems")
    find_files(path)
    present = columns_of(path)
    missing = [column for column in COLUMNS if column not in present]
    if missing:
        raise InputError(f"{path}: no column {', '.join(missing)}; it has {', '.join(present)}")
    for batch in read_batches(path, _ROWS_AT_ONCE, COLUMNS):
        yield from batch.rows()


def _identity(row: dict[str, Any], where: str) -> tuple[str, str, str]:
    messages, source = row.get("prompt"), row.get("data_source")
    if not isinstance(source, str) or not (source.strip() and source.isprintable()):
        raise InputError(f"{where}: column 'data_source' must be text on one line, the name of the benchmark")
    if not isinstance(messages, list) or not messages or not all(_is_message(message) for message in messages):
        raise InputError(f"{where}: column 'prompt' must be a list of messages {{'role': text, 'content': text}}")
    reward = row.get("reward_model")
    gold = reward.get("ground_truth") if isinstance(reward, dict) else None
    if not is_gold(gold):
        raise InputError(f"{where}: no gold answer; 'reward_model' must hold 'ground_truth'")
    chat = [{"role": message["role"], "content": message["content"]} for message in messages]
    text = json.dumps(chat, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{where}: the prompt holds half a character ({error.reason}); mend it where it was cut") from error
    return source, text, json.dumps(gold)


def is_gold(value: Any) -> bool:
    """Whether a value can be a gold answer: a text or number, or a list of those that are accepted."""
    if isinstance(value, list):
        return bool(value) and all(map(is_gold, value))
    if isinstance(value, float) and not math.isfinite(value) or isinstance(value, bool):
        return False
    return isinstance(value, (str, int, float)) and bool(gold_answers(value)) and str(value).strip().lower() != "nan"


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("role"), str) and isinstance(value.get("content"), str)
