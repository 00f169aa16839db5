"""Groups that are rolled in rounds: what the rows so far were worth decides how much of a demonstration the next ones are given.

    reroll       all n rows without a hint; while none is right, all of them again with 1/(k+1), 2/(k+1), ..., k/(k+1) of the trace
                 (GHPO, arXiv 2507.10628, k = 3)
    search       the same, and the share is the least one of 1/K, ..., (K - 1)/K with which a row is right, found by bisection; where none
                 is found, the last rows stay (BREAD, arXiv 2506.17211, K = 10)
    sequential   rows in parts of n/2, n/4, n/8, ..., 1, 1; the first part has no hint, and part i takes one of ``SHARES`` where fewer than
                 ``THRESHOLDS`` of the rows before it are right, else none (TRAPO, arXiv 2512.17636: 4, 2, 1, 1)

Pure functions of the results so far, so that a group is the same whichever process rolls it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from luffy.settings import Share, require, settings

Mode = Literal["none", "reroll", "search", "sequential"]

SHARES = (0.0, 0.25, 0.5, 1.0)  # of the sequential parts; the last one's for all further parts. Paper: 0, 0.2, 0.5, 1
THRESHOLDS = (0.0, 1 / 2, 2 / 3, 1.0)  # released script: fewer than 2 of 4, 4 of 6, 7 of 7. Paper: 0.5, 0.7, 0.9
_WHERE = "luffy.stages"
_STEPS = {"reroll": 3, "search": 10}


@settings(_WHERE)
class StagesConfig:
    """Groups rolled in rounds, with a longer hint where the rows before were wrong."""

    mode: Mode = "none"
    """none; reroll (GHPO), search (BREAD): a whole group again, while no row is right; sequential (TRAPO): row by row. LUFFY: none."""

    steps: Annotated[int, Field(ge=1)] | None = None
    """k of reroll, K of search; null: 3 and 10, as their papers. More rounds are possible than with fewer, each as long as the first."""

    snap: Share = 0.0
    """A hint goes on to the next blank line, if that is within this share of the trace. TRAPO: 0.3."""

    def __post_init__(self) -> None:
        require(
            self.steps is None or self.mode in _STEPS,
            f"{_WHERE}.steps is {self.steps}, but mode {self.mode} does not read it; set mode to {' or '.join(_STEPS)}",
        )
        require(self.mode != "search" or self.number > 1, f"{_WHERE}.steps is 1, which leaves nothing to search; raise it")
        require(self.mode != "none" or self.snap == 0, f"{_WHERE}.snap is {self.snap}, but mode none does not read it; leave it at 0")

    @property
    def number(self) -> int:
        """k of reroll, K of search."""
        return self.steps or _STEPS.get(self.mode, 1)


@dataclass(frozen=True, kw_only=True)
class Round:
    """Rows of a group that are rolled at once.

    Attributes:
        rows: their places in the group.
        share: of the demonstration that each is given, in [0, 1].
    """

    rows: tuple[int, ...]
    share: float


@dataclass(frozen=True, kw_only=True)
class Result:
    """A round, and how many of its rows are right."""

    round: Round
    correct: int


def next_round(config: StagesConfig, group_size: int, results: Sequence[Result], *, has_trace: bool = True) -> Round | None:
    """What a group rolls next.

    Args:
        config: the mode.
        group_size: n.
        results: the rounds so far, in order.
        has_trace: whether the prompt has a demonstration; without one no row has a hint, and none is rolled twice.

    Returns:
        The round, or None where the group is done.
    """
    if config.mode == "sequential":
        return _next_part(group_size, results, has_trace=has_trace)
    everyone = tuple(range(group_size))
    if not results:
        return Round(rows=everyone, share=0.0)
    if results[0].correct or not has_trace:
        return None
    if config.mode == "reroll":
        done = results[-1].correct or len(results) > config.number
        return None if done else Round(rows=everyone, share=len(results) / (config.number + 1))
    low, high = _bracket(config.number, results)
    return None if high - low == 1 else Round(rows=everyone, share=(low + high) // 2 / config.number)


def kept_rounds(config: StagesConfig, group_size: int, results: Sequence[Result]) -> list[int]:
    """The round (its place in ``results``) of which each row of the group is kept."""
    if config.mode == "sequential":
        of_row = {row: place for place, result in enumerate(results) for row in result.round.rows}
        return [of_row[row] for row in range(group_size)]
    last = max((place for place, result in enumerate(results) if result.correct), default=len(results) - 1)
    return [last] * group_size


def part_sizes(group_size: int) -> list[int]:
    """Rows of each sequential part: half of what is left, and 1 at the end. 8: 4, 2, 1, 1."""
    sizes, left = [], group_size
    while left:
        sizes.append(max(1, left // 2))
        left -= sizes[-1]
    return sizes


def _bracket(steps: int, results: Sequence[Result]) -> tuple[int, int]:
    """Bisection: a share, in steps, with which no row is right, and a larger one with which some are, or all of the trace."""
    low, high = 0, steps
    for result in results[1:]:
        step = round(result.round.share * steps)
        low, high = (low, step) if result.correct else (step, high)
    return low, high


def _next_part(group_size: int, results: Sequence[Result], *, has_trace: bool) -> Round | None:
    sizes, part = part_sizes(group_size), len(results)
    if part == len(sizes):
        return None
    before, correct = sum(sizes[:part]), sum(result.correct for result in results)
    stage = min(part, len(SHARES) - 1)
    hinted = has_trace and correct < THRESHOLDS[stage] * before
    return Round(rows=tuple(range(before, before + sizes[part])), share=SHARES[stage] if hinted else 0.0)
