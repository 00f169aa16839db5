"""Accuracy, pass@k and their uncertainty, from how many of each problem's samples are right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Interval:
    """An estimate with the bounds of its 95 % confidence interval."""

    value: float
    low: float
    high: float


def pass_at_k(n: int, c: int, k: int) -> float:
    """The chance that at least one of k samples is right, without bias, from n samples of which c are right.

    Args:
        n: samples of the problem.
        c: right ones among them.
        k: samples drawn without replacement, at most n.

    Returns:
        1 - C(n-c, k) / C(n, k).

    Raises:
        ValueError: unless 0 <= c <= n and 1 <= k <= n.

    Source: Chen et al. 2021, arXiv 2107.03374, equation 1.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"pass@k needs 0 <= c <= n and 1 <= k <= n; got n={n}, c={c}, k={k}")
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def mean_interval(scores: Sequence[float]) -> Interval:
    """The mean of the problems' scores with its 95 % interval over problems, which has a width at 0 and at 1 as well.

    Where a score is 0 or 1 (one sample a problem) this is Wilson's interval. Scores of several samples vary less: as many
    problems of 0 or 1 as would give their mean the same variance take their place (the effective sample size of
    surveys). One problem's worth of variance is added on both sides of that comparison, so that problems that all score
    alike by chance do not seem certain.

    Args:
        scores: one score a problem, in [0, 1]; at least one.

    Source: Wilson 1927; the effective size as in Dean and Pagano 2015, with the added problem of this project.
    """
    mean = fmean(scores)
    spread = sum((score - mean) ** 2 for score in scores) + 1
    most = len(scores) * mean * (1 - mean) + 1  # what the spread would be, were each score 0 or 1
    n = len(scores) * most / spread
    centre = (mean + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(mean * (1 - mean) / n + Z**2 / (4 * n**2))
    return Interval(mean, min(max(centre - half, 0.0), mean), max(min(centre + half, 1.0), mean))


def average_interval(intervals: Sequence[Interval]) -> Interval:
    """The unweighted mean of independent estimates, as the paper averages benchmarks, with its 95 % interval.

    Source: Zou and Donner 2008 (the distances from value to bound add up like standard errors, on each side apart).
    """
    value = fmean(each.value for each in intervals)
    below = math.hypot(*(each.value - each.low for each in intervals)) / len(intervals)
    above = math.hypot(*(each.high - each.value for each in intervals)) / len(intervals)
    return Interval(value, value - below, value + above)
