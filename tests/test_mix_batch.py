"""Metrics and advantages of a step, with numbers by hand for two groups of rows and a padding row."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from luffy.config import AdvantageConfig
from verl.mix_src.rl.batch import (
    RolloutBatch,
    cost_metrics,
    count_lost_rows,
    overhead_share,
    rollout_metrics,
    source_metrics,
    validation_shares,
)
from verl.mix_src.rl.loss import ROWS, Rows, luffy_advantages

# Row 0 is a whole demonstration, row 3 a partial one (two of its three
# tokens forced), the last is padding, the others are rollouts; row 2 is cut at the length limit.
RESPONSE = [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
FORCED = [[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
REWARDS = [1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0]
DEMONSTRATIONS = {
    0: {"source": "big", "ratio": 1.0, "truncated": True},
    3: {"source": "small", "ratio": 0.7, "truncated": False},
}


def rollouts() -> RolloutBatch:
    response, forced = torch.tensor(RESPONSE).bool(), torch.tensor(FORCED).bool()
    probability = torch.where(forced, 0.25, 0.5)
    return RolloutBatch(
        keys=[f"a_{row}_0" for row in range(len(RESPONSE))],
        places=None,
        groups=np.array(["a", "a", "a", "b", "b", "b", "pad"], dtype=object),
        rewards=torch.tensor(REWARDS),
        response_mask_BT=response,
        off_policy_mask_BT=forced,
        old_log_probs_BT=torch.where(response, probability.log(), math.nan),  # nobody may look at padding
        entropy_BT=torch.where(response, torch.where(forced, 3.0, 1.0), math.nan),
        truncated=torch.tensor([False, False, True, False, False, False, False]),
        real=response.any(dim=-1),
        extra=[{"demonstration": DEMONSTRATIONS[i]} if i in DEMONSTRATIONS else {} for i in range(len(RESPONSE))],
        nested=None,
    )


def test_rollouts_that_a_demonstration_replaces_still_have_their_figures():
    step, replaced = rollouts(), rollouts().real & ~rollouts().off_policy
    before = rollout_metrics(step, step.real)
    step.withheld_BT = step.response_mask_BT & replaced.unsqueeze(-1)
    step.response_mask_BT = step.response_mask_BT & ~step.withheld_BT
    after = rollout_metrics(step, step.real & ~replaced)
    assert before["on_policy/reward"] == 0.25 and before["off_policy/token_share"] < after["off_policy/token_share"]
    for key in ("reward", "response_length", "probability", "entropy"):
        assert after[f"on_policy/{key}"] == before[f"on_policy/{key}"]
    assert after["on_policy/withheld_share"] == 1 and "on_policy/withheld_share" not in before


EVERY_ROW = torch.ones(len(RESPONSE), dtype=torch.bool)


def test_metrics_tell_demonstrations_from_rollouts():
    metrics = rollout_metrics(rollouts(), EVERY_ROW)
    assert {name: value for name, value in metrics.items() if "/source/" not in name} == pytest.approx({
        "on_policy/reward": (1 + 0 + 0 + 0) / 4,
        "on_policy/response_length": (2 + 4 + 1 + 2) / 4,
        "on_policy/probability": 0.5,
        "on_policy/entropy": 1.0,
        "on_policy/truncated_share": 1 / 4,
        "off_policy/reward": (1 + 1) / 2,
        "off_policy/response_length": (4 + 2) / 2,  # the forced tokens
        "off_policy/probability": 0.25,
        "off_policy/entropy": 3.0,
        "off_policy/token_share": 6 / 16,
        "off_policy/row_share": 2 / 6,
        "off_policy/withheld_share": 0.0,
        "off_policy/truncated_share": 1 / 2,
        "off_policy/prefix_ratio": (1.0 + 0.7) / 2,
        "batch/solve_all": 0,
        "batch/solve_none": 0,
    })  # fmt: skip


SOURCES = {  # rows of one group: a row that came back, two demonstrations by one teacher, one by another; the others are rollouts
    0: {"source": "replay", "ratio": 1.0, "truncated": True},
    1: {"source": "big", "ratio": 1.0, "truncated": False},
    2: {"source": "big", "ratio": 0.5, "truncated": False},
    3: {"source": "small", "ratio": 1.0, "truncated": False},
}
FORCED_BY_SOURCE = [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def mixed_sources() -> RolloutBatch:
    """The same rows, of which each source has its own probability, entropy and reward."""
    step = rollouts()
    step.groups = np.array(["a"] * 6 + ["pad"], dtype=object)
    step.off_policy_mask_BT = torch.tensor(FORCED_BY_SOURCE).bool()
    step.extra = [{"demonstration": SOURCES[row]} if row in SOURCES else {} for row in range(len(RESPONSE))]
    step.rewards = torch.tensor([1.0, 1.0, 0.0, 0.5, 0.25, 0.0, 0.0])
    for row, (probability, entropy) in enumerate([(0.9, 0.1), (0.8, 0.2), (0.6, 0.4), (0.3, 0.7), (0.5, 1.0), (0.5, 1.0)]):
        step.old_log_probs_BT[row] = torch.where(step.response_mask_BT[row], math.log(probability), math.nan)
        step.entropy_BT[row] = torch.where(step.response_mask_BT[row], entropy, math.nan)
    return step


def test_every_source_of_a_mixed_group_has_its_own_figures():
    withheld = EVERY_ROW & torch.tensor([row != 2 for row in range(len(RESPONSE))])
    metrics = rollout_metrics(mixed_sources(), withheld)
    by_source = {name.removeprefix("off_policy/source/"): value for name, value in metrics.items() if "/source/" in name}
    assert by_source == pytest.approx({
        "replay/row_share": 1 / 4, "replay/reward": 1.0, "replay/response_length": 4, "replay/probability": 0.9, "replay/entropy": 0.1,
        "replay/withheld_share": 0, "replay/truncated_share": 1.0, "replay/prefix_ratio": 1.0,
        "big/row_share": 2 / 4, "big/reward": 0.5, "big/response_length": 2, "big/probability": 0.7, "big/entropy": 0.3,
        "big/withheld_share": 1 / 2, "big/truncated_share": 0, "big/prefix_ratio": 0.75,
        "small/row_share": 1 / 4, "small/reward": 0.5, "small/response_length": 3, "small/probability": 0.3, "small/entropy": 0.7,
        "small/withheld_share": 0, "small/truncated_share": 0, "small/prefix_ratio": 1.0,
    })  # fmt: skip
    assert metrics["on_policy/reward"] == pytest.approx((0.25 + 0.0) / 2) and metrics["on_policy/probability"] == pytest.approx(0.5)
    assert metrics["off_policy/row_share"] == pytest.approx(4 / 6)
    of_all = {name.removeprefix("off_policy/") for name in metrics if name.startswith("off_policy/") and "/source/" not in name}
    assert {name.removeprefix("big/") for name in by_source if name.startswith("big/")} == of_all - {
        "token_share"
    }  # nothing is of all alone


def test_a_source_without_forced_tokens_has_no_means():
    step = mixed_sources()
    step.extra = [{}] * len(RESPONSE)
    assert source_metrics(step, EVERY_ROW) == {}


PROMPT_TOKENS = torch.tensor([5, 5, 5, 6, 6, 6, 9])


def test_costs_of_a_step_are_counted():
    step = mixed_sources()
    assert cost_metrics(step, PROMPT_TOKENS) == {
        "ledger/generated_tokens": 2 + 1 + 2,  # the half trace's rest, and the rollouts
        "ledger/trained_tokens": 16,
        "ledger/processed_tokens": 16 + 33,
        "ledger/traces": 3,  # the row that came back is none
    }
    step.withheld_BT = step.response_mask_BT & torch.tensor([row in (4, 5) for row in range(7)]).unsqueeze(-1)
    step.response_mask_BT = step.response_mask_BT & ~step.withheld_BT
    assert cost_metrics(step, PROMPT_TOKENS) == {
        "ledger/generated_tokens": 5, "ledger/trained_tokens": 13, "ledger/processed_tokens": 16 + 33, "ledger/traces": 3
    }  # fmt: skip
    for extra in step.extra[:3]:
        extra["stages"] = {"rounds": 2, "rolled": 12, "dropped_tokens": 40}  # of their group, once
    assert cost_metrics(step, PROMPT_TOKENS)["ledger/generated_tokens"] == 45


def test_a_withheld_demonstration_is_counted_and_its_tokens_stay_known():
    batch, included = rollouts(), EVERY_ROW.clone()
    included[0] = False
    batch.response_mask_BT[0] = False
    metrics = rollout_metrics(batch, included)
    assert metrics["off_policy/withheld_share"] == 1 / 2
    assert metrics["off_policy/response_length"] == 3
    assert metrics["off_policy/token_share"] == pytest.approx(2 / 12)


def test_a_step_without_demonstrations_has_no_means_of_them():
    batch = rollouts()
    batch.off_policy_mask_BT = torch.zeros_like(batch.off_policy_mask_BT)
    batch.extra = [{}] * len(RESPONSE)
    metrics = rollout_metrics(batch, EVERY_ROW)
    assert metrics["on_policy/reward"] == pytest.approx(3 / 6)
    assert {name: value for name, value in metrics.items() if name.startswith("off_policy/")} == {
        "off_policy/token_share": 0.0,
        "off_policy/row_share": 0.0,
        "off_policy/withheld_share": 0.0,
        "off_policy/truncated_share": 0.0,
    }


def test_a_step_without_entropies_has_no_mean_of_them():
    batch = rollouts()
    batch.entropy_BT = None
    assert not any("entropy" in name for name in rollout_metrics(batch, EVERY_ROW))


@pytest.mark.parametrize(
    ("rewards", "solved"),
    [([1, 1, 1, 0, 0, 0, 0], (1, 1)), ([0, 0, 0, -1, 0, 0, 1], (0, 2)), ([1, 1, 1, 1, 1, 1, 0], (2, 0)), ([1, 0, 1, 0, 1, 0, 0], (0, 0))],
)
def test_groups_that_are_all_right_or_all_wrong(rewards: list[float], solved: tuple[int, int]):
    batch = rollouts()
    batch.rewards = torch.tensor(rewards, dtype=torch.float32)
    metrics = rollout_metrics(batch, EVERY_ROW)
    assert (metrics["batch/solve_all"], metrics["batch/solve_none"]) == solved


def test_a_step_with_missing_rows_stops_the_run():
    rows = [f"{uid}_{session}_{output}" for uid in ("0001-0", "0001-1") for session in range(4) for output in range(2)]
    assert count_lost_rows(rows, 8, allowed=0) == 0
    demonstrations_alone = [row for row in rows if "_0_" in row]
    with pytest.raises(RuntimeError, match="6 of a step's 8 rows are missing, because their requests failed"):
        count_lost_rows(demonstrations_alone, 8, allowed=5)
    assert count_lost_rows(demonstrations_alone, 8, allowed=6) == 6


def test_overhead_is_what_is_neither_work_nor_checkpoint():
    timing = {"step": 20.0, "gen": 6.0, "old_log_prob": 1.0, "update_actor": 4.0, "update_weights": 1.0}
    assert overhead_share({**timing, "save_checkpoint": 4.0}) == pytest.approx((20 - 4 - 12) / (20 - 4))
    assert overhead_share({"step": 1.0, "gen": 1.1}) == 0.0


def advantages(**settings: object) -> list[float]:
    """Row advantages of the step above, after checking that each is on all the row's tokens and on no other."""
    batch = rollouts()
    rewards_BT = torch.zeros(batch.response_mask_BT.shape)
    rewards_BT[:, 0] = batch.rewards  # veRL puts it on one token
    included = settings.pop("included", batch.real)
    rows = Rows(off_policy=batch.off_policy, included=included, truncated=batch.truncated, config=AdvantageConfig(**settings))
    token = ROWS.set(rows)
    try:
        result, returns = luffy_advantages(rewards_BT, batch.response_mask_BT, batch.groups)
    finally:
        ROWS.reset(token)
    assert torch.equal(result, returns)
    each = result[:, 0]
    assert torch.equal(result, each.unsqueeze(-1) * batch.response_mask_BT)
    return each.tolist()


@pytest.fixture(autouse=True)
def nothing_left_in_the_context() -> Iterator[None]:
    yield
    with pytest.raises(LookupError):
        ROWS.get()


def test_advantages_over_the_whole_group():
    assert advantages() == pytest.approx([1 / 3, 1 / 3, -2 / 3, 2 / 3, -1 / 3, -1 / 3, 0])


def test_advantages_over_the_rollouts_alone():
    assert advantages(baseline="on_policy") == pytest.approx([0.5, 0.5, -0.5, 1, 0, 0, 0])


def test_advantages_divided_by_the_standard_deviation():
    std = math.sqrt(1 / 3)  # of (1, 1, 0) and of (1, 0, 0), over n - 1
    expected = [value / std for value in (1 / 3, 1 / 3, -2 / 3, 2 / 3, -1 / 3, -1 / 3, 0)]
    assert advantages(normalize_std=True) == pytest.approx(expected, rel=1e-5)


def test_a_truncated_row_keeps_its_place_in_the_mean():
    assert advantages(zero_truncated=True) == pytest.approx([1 / 3, 1 / 3, 0, 2 / 3, -1 / 3, -1 / 3, 0])


def test_a_withheld_row_leaves_the_mean():
    included = rollouts().real
    included[3] = False
    assert advantages(included=included) == pytest.approx([1 / 3, 1 / 3, -2 / 3, 0, 0, 0, 0])


def test_validation_shares_by_source() -> None:
    indicators = {"reward/no_answer": [1.0, 0.0, 0.0, None]}
    assert validation_shares(["a", "a", "b", "b"], indicators) == {
        "val-aux/a/reward/no_answer/mean": 0.5,
        "val-aux/b/reward/no_answer/mean": 0.0,
    }
