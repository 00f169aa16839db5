"""The embedded example's training and held-out problems, in the training layout of :mod:`luffy.traces`."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from luffy.errors import InputError
from luffy.traces import PROMPT, TARGET, TARGET_SOURCE
from miniature.task import (
    DIGITS,
    SEMICOLON_SHARE,
    draw_problems,
    question,
    totals,
    write_checked_response,
    write_response,
    write_wrong_response,
)

DATA_SOURCE = "luffy_tiny"
TRAIN_FILE, HELDOUT_FILE, HARDER_FILE = "train.parquet", "heldout.parquet", "heldout_harder.parquet"
HARDER_DIGITS = DIGITS + 1

_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
_ROW = {
    "data_source": pa.string(),
    PROMPT: pa.list_(_MESSAGE),
    "ability": pa.string(),
    "reward_model": pa.struct([("style", pa.string()), ("ground_truth", pa.string())]),
    "extra_info": pa.struct([("index", pa.int64()), ("split", pa.string())]),
}
_TRACES = {TARGET: pa.list_(_MESSAGE), TARGET_SOURCE: pa.list_(pa.string())}


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A writer of traces.

    Attributes:
        name: what the column ``target_source`` says.
        semicolon_share: its habit: probability in [0, 1] of ``;`` after a link, else ``,``.
        checks: it writes each link twice, first with swapped operands: long traces of a manner that no base has seen.
    """

    name: str = "expert"
    semicolon_share: float = SEMICOLON_SHARE
    checks: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.semicolon_share <= 1:
            share = self.semicolon_share
            raise InputError(f"teacher '{self.name}' has a semicolon share of {share}; it must be in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class DataRecipe:
    """What the data files hold.

    Attributes:
        n_prompts: training prompts.
        n_traces: how many of them have traces, one by each teacher; the others have none (null). None: all of them.
        wrong_share: share in [0, 1] of the traces that make one mistake and miss the answer, rounded to whole traces.
        teachers: who writes the traces.
        n_heldout: held-out problems of the training size, and as many that are one digit longer.
    """

    n_prompts: int = 2048
    n_traces: int | None = None
    wrong_share: float = 0.0
    teachers: tuple[Teacher, ...] = (Teacher(),)
    n_heldout: int = 256

    def __post_init__(self) -> None:
        if self.n_prompts < 1 or self.n_heldout < 1:
            raise InputError(f"{self.n_prompts} training, {self.n_heldout} held-out prompts: give at least 1 of each")
        if self.n_traces is not None and not 0 <= self.n_traces <= self.n_prompts:
            raise InputError(f"{self.n_traces} prompts with traces, of {self.n_prompts}: give from 0 to all of them")
        if not 0 <= self.wrong_share <= 1:
            raise InputError(f"the share of wrong traces is {self.wrong_share}; it must be in [0, 1]")
        if self.wrong_share and any(teacher.checks for teacher in self.teachers):
            raise InputError("a teacher that checks its links makes no mistakes; set the share of wrong traces to 0")
        if len({teacher.name for teacher in self.teachers}) < max(1, len(self.teachers)):
            raise InputError("the teachers need different names, and there must be at least one")


def tables(recipe: DataRecipe, seed: int, *, train_seed: int | None = None) -> dict[str, pa.Table]:
    """Make the data.

    The held-out problems depend on ``seed`` and their number alone, so recipes can be compared on them. No problem is
    in two files.

    Args:
        recipe: what to make.
        seed: of problems and traces.
        train_seed: of the training problems and their traces, where they have a seed of their own.

    Returns:
        File name to table.
    """
    train_seed = seed if train_seed is None else train_seed
    heldout = draw_problems(recipe.n_heldout, random.Random(f"{seed} problems"))
    harder = draw_problems(recipe.n_heldout, random.Random(f"{seed} harder"), digits=HARDER_DIGITS)
    drawn = draw_problems(recipe.n_heldout + recipe.n_prompts, random.Random(f"{train_seed} problems"))
    train = [digits for digits in drawn if digits not in set(heldout)][: recipe.n_prompts]
    return {
        TRAIN_FILE: _train_table(train, recipe, random.Random(f"{train_seed} traces")),
        HELDOUT_FILE: _table([_row(row, index, "heldout") for index, row in enumerate(heldout)], _ROW),
        HARDER_FILE: _table([_row(row, index, "heldout_harder") for index, row in enumerate(harder)], _ROW),
    }


def _train_table(problems: list[str], recipe: DataRecipe, rng: random.Random) -> pa.Table:
    n_traced = len(problems) if recipe.n_traces is None else recipe.n_traces
    n_all = n_traced * len(recipe.teachers)
    wrong = iter(_shuffled_flags(round(recipe.wrong_share * n_all), n_all, rng))
    rows = []
    for index, digits in enumerate(problems):
        row = _row(digits, index, "train") | {TARGET: None, TARGET_SOURCE: None}
        if index < n_traced:
            row[TARGET] = [_trace(digits, teacher, rng, wrong=next(wrong)) for teacher in recipe.teachers]
            row[TARGET_SOURCE] = [teacher.name for teacher in recipe.teachers]
        rows.append(row)
    return _table(rows, _ROW | _TRACES)


def _trace(digits: str, teacher: Teacher, rng: random.Random, *, wrong: bool) -> dict[str, str]:
    if teacher.checks:
        return {"role": "assistant", "content": write_checked_response(digits, rng)}
    write = write_wrong_response if wrong else write_response
    return {"role": "assistant", "content": write(digits, rng, semicolon_share=teacher.semicolon_share)}


def _shuffled_flags(true: int, total: int, rng: random.Random) -> list[bool]:
    flags = [True] * true + [False] * (total - true)
    rng.shuffle(flags)
    return flags


def _row(digits: str, index: int, split: str) -> dict[str, Any]:
    return {
        "data_source": DATA_SOURCE,
        PROMPT: [{"role": "user", "content": question(digits)}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": totals(digits)},
        "extra_info": {"index": index, "split": split},
    }


def _table(rows: list[dict[str, Any]], columns: Mapping[str, pa.DataType]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=pa.schema(list(columns.items())))
