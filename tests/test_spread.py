"""How the rows to compute are shared out over ranks, updates and micro-batches."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from luffy.config import LuffyConfig
from verl.mix_src.rl.second_pass import leaves_out, second_pass_for
from verl.mix_src.rl.spread import largest_part, spread


def test_rows_to_compute_are_shared_out_evenly():
    wanted = [True, False, False, False, True, True, False, False]  # of two ranks, two updates each: rows 0 1 4 5, then 2 3 6 7
    order, computed = spread(wanted, [9, 1, 5, 3, 8, 7, 2, 4], ranks=2, updates=2, micro_batch=None)
    assert sorted(order) == list(range(8))
    assert computed == [True, True, True, False, True, True, True, False]  # three rows: two a rank; none: one a rank
    assert {frozenset(order[:2]), frozenset(order[4:6])} == {frozenset({0, 1}), frozenset({4, 5})}  # 9 + 1 and 8 + 7 tokens
    assert {order[2], order[6]} == {2, 6} and {order[3], order[7]} == {3, 7}


def test_one_row_in_sixteen_is_computed_whatever_it_brings():
    order, computed = spread([False] * 64, [1] * 64, ranks=2, updates=1, micro_batch=32)
    assert sum(computed[:32]) == sum(computed[32:]) == 2
    assert sorted(place for place, passes in zip(order, computed, strict=True) if passes) == [0, 16, 32, 48]


def test_where_every_row_is_computed_none_moves():
    assert spread([True] * 8, [1] * 8, ranks=2, updates=2, micro_batch=1) == (list(range(8)), [True] * 8)


@pytest.mark.parametrize(("micro_batch", "rows"), [(12, 5), (4, 6), (3, 6), (2, 6), (1, 5), (None, 5)])
def test_micro_batches_of_one_size_hold_the_rows_to_compute(micro_batch, rows):
    _, computed = spread([True] * 5 + [False] * 7, [1] * 12, ranks=1, updates=1, micro_batch=micro_batch)
    assert sum(computed) == rows  # 5 in one micro-batch; two of three; three of two; five of one


def test_the_largest_part():
    assert [largest_part(*each) for each in ((12, 5), (7, 5), (6, 9), (1, 1))] == [4, 1, 6, 1]


CONFIG = {
    "actor_rollout_ref": {
        "rollout": {"calculate_log_probs": False},
        "actor": {"ppo_epochs": 1, "shuffle": False, "calculate_entropy": True, "entropy_coeff": 0.0},
    },
    "algorithm": {"use_kl_in_reward": False},
    "trainer": {"v1": {"trainer_mode": "sync", "separate_async": {"parameter_sync_step": 4}}},
}


@pytest.mark.parametrize(("overrides", "says"), [
    ({}, None),
    ({"actor_rollout_ref.rollout.calculate_log_probs": True}, "calculate_log_probs"),
    ({"algorithm.use_kl_in_reward": True}, "use_kl_in_reward"),
    ({"actor_rollout_ref.actor.ppo_epochs": 2}, "ppo_epochs"),
    ({"actor_rollout_ref.actor.shuffle": True}, "shuffle"),
    ({"actor_rollout_ref.actor.calculate_entropy": False}, "calculate_entropy"),
    ({"actor_rollout_ref.actor.calculate_entropy": False, "actor_rollout_ref.actor.entropy_coeff": 0.1}, None),
    ({"trainer.v1.trainer_mode": "separate_async"}, "parameter_sync_step"),
    ({"trainer.v1.trainer_mode": "colocate_async"}, None),
])  # fmt: skip
def test_what_needs_a_pass_before_the_update(overrides, says):
    config = OmegaConf.create(CONFIG)
    for key, value in overrides.items():
        OmegaConf.update(config, key, value)
    reason = second_pass_for(config, LuffyConfig())
    assert (reason is None) if says is None else (says in reason)


def test_a_store_of_rollouts_and_the_switch_need_one_too():
    kept = SimpleNamespace(run=SimpleNamespace(own_pass=True), store=SimpleNamespace(admit="partly_solved"))
    assert "luffy.store.admit=partly_solved" in second_pass_for(OmegaConf.create(CONFIG), kept)
    assert "luffy.run.own_pass" in second_pass_for(OmegaConf.create(CONFIG), LuffyConfig.from_mapping({"run": {"own_pass": False}}))


def test_with_an_order_of_each_ranks_own_every_row_is_computed():
    """veRL seeds the shuffle of a mini-batch's rows with the rank, so an update would have other numbers of rows on each."""
    luffy = LuffyConfig.from_mapping({})
    assert leaves_out(OmegaConf.create(CONFIG), luffy)
    assert not leaves_out(OmegaConf.merge(CONFIG, {"actor_rollout_ref": {"actor": {"shuffle": True}}}), luffy)
