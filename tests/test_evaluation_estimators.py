"""pass@k against counting all subsets, and intervals against published examples and simulation."""

from itertools import combinations
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luffy.evaluation.estimators import average_interval, mean_interval, pass_at_k


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample(case):
    n, c, k = case
    subsets = list(combinations([1] * c + [0] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets), abs=1e-12)


def test_pass_at_k_by_hand():
    assert pass_at_k(4, 1, 2) == 0.5
    assert pass_at_k(32, 3, 1) == pytest.approx(3 / 32)
    assert pass_at_k(5, 5, 5) == 1.0 and pass_at_k(5, 0, 5) == 0.0


@pytest.mark.parametrize(("n", "c", "k"), [(4, 5, 1), (4, -1, 1), (4, 2, 5), (4, 2, 0)])
def test_pass_at_k_refuses_impossible_counts(n, c, k):
    with pytest.raises(ValueError, match="pass@k"):
        pass_at_k(n, c, k)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(0, 30, 0, 0.1135), (30, 30, 0.8865, 1), (5, 10, 0.2366, 0.7634), (1, 1, 0.2065, 1), (81, 263, 0.2553, 0.3662)],
)  # the last one is the example of Newcombe 1998
def test_one_sample_a_problem_gives_wilsons_interval(right, n, low, high):
    interval = mean_interval([1.0] * right + [0.0] * (n - right))
    assert interval.value == right / n
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


def test_one_right_sample_of_960_is_hardly_more_certain_than_none():
    none, one = mean_interval([0.0] * 30), mean_interval([0.0] * 29 + [1 / 32])
    assert none.high == pytest.approx(one.high, abs=0.003) and 0 < one.low < one.value


@pytest.mark.parametrize("p", [0.03, 0.3, 0.9])
@pytest.mark.parametrize(("samples", "unevenness"), [(1, 1.0), (8, 0.5), (32, 5.0)])
def test_intervals_hold_the_truth_as_often_as_they_say(p, samples, unevenness):
    draw = np.random.default_rng(7)
    held, width = 0, 0.0
    for _ in range(600):
        rates = draw.beta(p * unevenness, (1 - p) * unevenness, 60)  # problems differ in difficulty
        interval = mean_interval((draw.binomial(samples, rates) / samples).tolist())
        held += interval.low <= p <= interval.high
        width += interval.high - interval.low
    assert held / 600 > 0.915  # 0.95 less three standard errors and the discreteness of one sample a problem
    spread = np.sqrt(p * (1 - p) * (1 / samples + (1 - 1 / samples) / (1 + unevenness)) / 60)
    assert width / 600 < 2 * 2 * 1.96 * spread  # no wider than twice what knowing the spread would give


def test_average_weighs_benchmarks_equally_whatever_their_size():
    sure, unsure = mean_interval([1.0] * 500), mean_interval([0.0, 0.0])
    average = average_interval([sure, unsure])
    assert average.value == 0.5
    assert average.low == pytest.approx(0.5 - (1 - sure.low) / 2) and average.high == pytest.approx(0.5 + unsure.high / 2)
    single = mean_interval([1.0, 0.0] * 4)
    both = average_interval([single, single])
    assert (both.high - both.low) / (single.high - single.low) == pytest.approx(1 / sqrt(2))
    assert average_interval([single]).low == pytest.approx(single.low)
