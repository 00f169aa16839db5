"""Intervals by bootstrap over problems and seeds. Shapes: S seeds, P problems, D draws.

A draw takes P problems and S seeds with replacement, the same ones for both of two methods, so that what is hard for both cancels.
Source: Efron and Tibshirani 1993, chapters 8 and 13 (percentiles).
"""

from __future__ import annotations

import numpy as np

from luffy.evaluation.estimators import Interval

DRAWS = 10_000
LEVEL = 0.95
AT_ONCE = 500  # draws, so that thousands of problems need little memory


def means(scores_SP: np.ndarray, *, seed: int = 0, draws: int = DRAWS) -> np.ndarray:
    """[D] means of the scores over the drawn seeds and problems; equal shapes draw the same ones.

    Args:
        scores_SP: one score a seed and problem, in [0, 1].
        seed: of the draws.
        draws: D.
    """
    random, found = np.random.default_rng(seed), []
    for start in range(0, draws, AT_ONCE):
        seeds, problems = (_counts(random, number, min(AT_ONCE, draws - start)) for number in scores_SP.shape)
        found.append(((seeds @ scores_SP) * problems).sum(axis=1))
    return np.concatenate(found) / scores_SP.size


def _counts(random: np.random.Generator, number: int, draws: int) -> np.ndarray:
    """[D, number]: how often each of so many is drawn."""
    return random.multinomial(number, np.full(number, 1 / number), size=draws)


def interval(scores_SP: np.ndarray, **how: int) -> Interval:
    """The mean score with its interval; arguments of :func:`means`."""
    return _interval(float(scores_SP.mean()), means(scores_SP, **how))


def difference(first_SP: np.ndarray, second_SP: np.ndarray, **how: int) -> Interval:
    """Mean of the first less mean of the second, with its interval.

    One with a single row (the start model, which no seed has) stands for all seeds.
    """
    first_SP, second_SP = np.broadcast_arrays(first_SP, second_SP)
    return interval(first_SP - second_SP, **how)


def _interval(value: float, drawn: np.ndarray) -> Interval:
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))


def problems_needed(found: Interval, problems: int) -> int | None:
    """Problems with which an interval of this centre would leave out 0, its width falling with their root; None where the centre is 0."""
    if found.value == 0:
        return None
    reach = found.value - found.low if found.value > 0 else found.high - found.value
    return int(np.ceil(problems * (reach / found.value) ** 2))
