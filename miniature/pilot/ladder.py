"""Successive halving: how many methods are trained how far, and what that takes.

Rung r of R trains the methods that are left up to step S · 2^(r - R), r = 1, ..., R, each from where it was; the better half goes on.
Source: Karnin, Koren and Somekh 2013 (ICML); runs that go on instead of starting anew, as Jamieson and Talwalkar 2016, arXiv 1502.07943.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from luffy.errors import InputError

LEAST_STEPS = 2  # of the first rung: SFT then RL has half of them for each
ROOM = 0.9  # share of the budget that is planned: what is left is for a rung that takes longer


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What the parts of a pilot take, in seconds.

    Attributes:
        start: of a training until its first step, and from its last one on.
        step: of a training.
        measure: answers to the held-out problems of one model.
    """

    start: float
    step: float
    measure: float


@dataclass(frozen=True, kw_only=True)
class Rung:
    """A rung of the ladder: so many methods, trained up to a step."""

    methods: int
    step: int


def ladder(methods: int, rungs: int, steps: int) -> list[Rung]:
    """The rungs for so many methods, of which the last one ends at ``steps``.

    Raises:
        InputError: where the first rung would have fewer than :data:`LEAST_STEPS`.
    """
    found = [Rung(methods=max(1, math.ceil(methods / 2**r)), step=steps * 2**r // 2 ** (rungs - 1)) for r in range(rungs)]
    if found[0].step < LEAST_STEPS:
        raise InputError(
            f"{steps} steps in {rungs} rungs leave {found[0].step} for the first one, which needs {LEAST_STEPS}: raise --steps or "
            "--budget, or lower --rungs, --seeds or the number of methods"
        )
    return found


def trained_steps(rungs: Sequence[Rung]) -> int:
    """Training steps of a whole ladder, of one seed."""
    before = [0, *(rung.step for rung in rungs)]
    return sum(rung.methods * (rung.step - done) for rung, done in zip(rungs, before, strict=False))


def seconds(rungs: Sequence[Rung], seeds: int, pace: Pace) -> float:
    """What a ladder takes, the measurement of the start model included; every method as slow as the one that gave the pace."""
    runs = seeds * sum(rung.methods for rung in rungs)
    return pace.measure + runs * (pace.start + pace.measure) + seeds * trained_steps(rungs) * pace.step


def affordable(methods: int, rungs: int, seeds: int, budget: float, pace: Pace) -> int:
    """The most steps of the last rung that a budget in seconds pays for.

    Raises:
        InputError: where it does not pay for the shortest ladder.
    """
    unit = 2 ** (rungs - 1)
    least = LEAST_STEPS * unit
    shortest = seconds(ladder(methods, rungs, least), seeds, pace)
    if shortest > ROOM * budget:
        raise InputError(
            f"the shortest ladder of {methods} methods, {rungs} rungs and {seeds} seeds takes about {shortest / ROOM / 60:.0f} minutes, and "
            f"{budget / 60:.0f} are left of the budget: raise --budget, or lower --methods, --rungs or --seeds"
        )
    longer = seconds(ladder(methods, rungs, least + unit), seeds, pace) - shortest  # of each further step of the first rung
    return least + unit * int((ROOM * budget - shortest) / longer)


def survivors(scores: Mapping[str, float], keep: int) -> list[str]:
    """The ``keep`` best by score, the best first; of equal ones those that come first stay."""
    return sorted(scores, key=lambda name: -scores[name])[:keep]
