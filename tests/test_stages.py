"""Groups rolled in rounds: which rows, with how much of a trace, and which of them stay."""

from __future__ import annotations

import pytest

from luffy.errors import InputError
from luffy.stages import Result, StagesConfig, kept_rounds, next_round, part_sizes

REROLL, SEARCH, SEQUENTIAL = (StagesConfig(mode=mode) for mode in ("reroll", "search", "sequential"))


def rolled(config: StagesConfig, correct, *, n: int = 8, has_trace: bool = True) -> tuple[list[tuple[int, float]], list[int]]:
    """Number of rows and share of each round, where ``correct(round, share)`` rows of it are right, and the rounds that stay."""
    results: list[Result] = []
    while (turn := next_round(config, n, results, has_trace=has_trace)) is not None:
        results.append(Result(round=turn, correct=correct(len(results), turn.share)))
    return [(len(each.round.rows), each.round.share) for each in results], kept_rounds(config, n, results)


def test_a_group_without_a_right_row_is_rolled_again_with_longer_hints():
    assert rolled(REROLL, lambda turn, share: 1) == ([(8, 0.0)], [0] * 8)
    assert rolled(REROLL, lambda turn, share: 2 * (turn == 2)) == ([(8, 0.0), (8, 0.25), (8, 0.5)], [2] * 8)
    assert rolled(REROLL, lambda turn, share: 0) == ([(8, 0.0), (8, 0.25), (8, 0.5), (8, 0.75)], [3] * 8)
    assert rolled(StagesConfig(mode="reroll", steps=1), lambda turn, share: 0)[0] == [(8, 0.0), (8, 0.5)]
    assert rolled(REROLL, lambda turn, share: 0, has_trace=False) == ([(8, 0.0)], [0] * 8)


@pytest.mark.parametrize(
    ("needed", "shares", "kept"),
    [
        (0.05, [0.0, 0.5, 0.2, 0.1], 3),
        (0.3, [0.0, 0.5, 0.2, 0.3], 3),
        (0.35, [0.0, 0.5, 0.2, 0.3, 0.4], 4),
        (0.45, [0.0, 0.5, 0.2, 0.3, 0.4], 1),  # the shortest one that helps was rolled before the last
        (0.85, [0.0, 0.5, 0.7, 0.8, 0.9], 4),
        (1.0, [0.0, 0.5, 0.7, 0.8, 0.9], 4),  # none helps
    ],
)
def test_the_shortest_hint_that_helps_is_found_by_bisection(needed, shares, kept):
    rounds, of_rows = rolled(SEARCH, lambda turn, share: 3 * (share >= needed))
    assert [share for _, share in rounds] == pytest.approx(shares) and of_rows == [kept] * 8
    assert len(rounds) <= 1 + 4


def test_sequential_parts_have_hints_where_too_few_are_right():
    assert [part_sizes(n) for n in (8, 4, 1, 5)] == [[4, 2, 1, 1], [2, 1, 1], [1], [2, 1, 1, 1]]
    none = [(4, 0.0), (2, 0.25), (1, 0.5), (1, 1.0)]
    assert rolled(SEQUENTIAL, lambda turn, share: 0) == (none, [0, 0, 0, 0, 1, 1, 2, 3])
    # S = 2 of 4: free; 3 of 6: 50 %; 4 of 7: the whole trace
    assert rolled(SEQUENTIAL, lambda turn, share: (2, 1, 1, 1)[turn])[0] == [(4, 0.0), (2, 0.0), (1, 0.5), (1, 1.0)]
    # S = 3 of 4, then 4 of 6: free; 5 of 7: the whole trace
    assert rolled(SEQUENTIAL, lambda turn, share: (3, 1, 1, 1)[turn])[0] == [(4, 0.0), (2, 0.0), (1, 0.0), (1, 1.0)]
    assert rolled(SEQUENTIAL, lambda turn, share: (4, 2, 1, 0)[turn])[0][-1] == (1, 0.0)  # 7 of 7
    assert rolled(SEQUENTIAL, lambda turn, share: (1, 0, 0, 0)[turn])[0][1] == (2, 0.25)
    assert rolled(SEQUENTIAL, lambda turn, share: 0, has_trace=False)[0] == [(4, 0.0), (2, 0.0), (1, 0.0), (1, 0.0)]
    assert rolled(SEQUENTIAL, lambda turn, share: 0, n=32)[0][-1] == (1, 1.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 3}, "luffy.stages.steps is 3, but mode none does not read it"),
        ({"mode": "sequential", "steps": 3}, "mode sequential does not read it; set mode to reroll or search"),
        ({"mode": "search", "steps": 1}, "leaves nothing to search"),
        ({"snap": 0.2}, "luffy.stages.snap is 0.2"),
        ({"mode": "ghpo"}, "luffy.stages.mode is 'ghpo'; it must be one of none, reroll, search, sequential"),
    ],
)
def test_settings_that_contradict(settings, message):
    with pytest.raises(InputError, match=message):
        StagesConfig(**settings)
