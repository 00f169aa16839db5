"""Guidance: who is a demonstration, of which trace, how much of it; and that every decision is a pure function."""

import random
import statistics
import subprocess
import sys

import pytest
import torch

from luffy.errors import InputError
from luffy.guidance import Demonstration, GuidanceConfig, demonstration_for_row, guided_rows, prefix_length
from luffy.traces import Trace

R1 = Trace(text="long trace", source="r1")
R1_SHORT = Trace(text="short", source="r1")
QWQ = Trace(text="middling", source="qwq")


def rows(config, traces=(R1,), group_size=8, step=1, prompt_key="p"):
    return [
        demonstration_for_row(config, traces, row=row, group_size=group_size, step=step, prompt_key=prompt_key) for row in range(group_size)
    ]


def ratios(config, **arguments):
    return [each.ratio if each else None for each in rows(config, **arguments)]


def test_the_paper_one_whole_demonstration_in_eight():
    assert rows(GuidanceConfig()) == [Demonstration(trace=R1, ratio=1.0, index=0)] + [None] * 7


@pytest.mark.parametrize(("k", "expected"), [(0, 0), (3, 3), (8, 8), (-1, 8)])
def test_number_of_demonstrations(k, expected):
    assert sum(each is not None for each in rows(GuidanceConfig(n_demonstrations=k))) == expected


def test_a_missing_trace_leaves_on_policy_rows():
    assert rows(GuidanceConfig(n_demonstrations=-1), traces=()) == [None] * 8


@pytest.mark.parametrize(("ratio", "tokens", "forced"), [(1.0, 7, 7), (0.5, 7, 3), (0.999, 1, 0), (0.0, 7, 0), (1.0, 0, 0), (1 / 3, 3, 1)])
def test_prefix_length_rounds_down(ratio, tokens, forced):
    assert prefix_length(ratio, tokens) == forced


def test_random_ratios_fill_their_interval():
    config = GuidanceConfig(n_demonstrations=-1, schedule="random", min_ratio=0.2, max_ratio=0.8)
    drawn = [ratio for step in range(1, 251) for ratio in ratios(config, step=step)]
    assert min(drawn) >= 0.2
    assert max(drawn) < 0.8
    assert statistics.mean(drawn) == pytest.approx(0.5, abs=0.02)
    assert statistics.pstdev(drawn) == pytest.approx(0.6 / 12**0.5, abs=0.01)
    assert len(set(drawn)) == len(drawn)


def test_linear_falls_to_nothing():
    config = GuidanceConfig(n_demonstrations=2, schedule="linear", max_ratio=0.8, steps=4)
    by_step = [ratios(config, group_size=3, step=step) for step in range(1, 7)]
    assert [each[0] for each in by_step] == pytest.approx([0.8, 0.6, 0.4, 0.2, None, None])
    assert all(first == second and third is None for first, second, third in by_step)


@pytest.mark.parametrize(
    ("schedule", "bounds"),
    [
        ("linear_max", {1: 0.8, 30: 0.8, 31: 0.72, 151: 0.4, 271: 0.08, 300: 0.08, 1000: 0.08}),
        ("reverse_linear", {1: 0.08, 30: 0.08, 31: 0.16, 151: 0.48, 271: 0.8, 300: 0.8, 1000: 0.8}),
    ],
)
def test_windows(schedule, bounds):
    """Over 300 steps each of the ten windows has 30; within one, ratios fill U(0, bound)."""
    config = GuidanceConfig(n_demonstrations=-1, schedule=schedule, max_ratio=0.8, steps=300)
    for step, bound in bounds.items():
        drawn = [ratio for key in range(100) for ratio in ratios(config, step=step, prompt_key=key)]
        assert bound * 0.98 < max(drawn) < bound
        assert min(drawn) < bound * 0.02


def test_fixed_spaces_the_rows_evenly():
    config = GuidanceConfig(n_demonstrations=4, schedule="fixed", min_ratio=0.1, max_ratio=0.7)
    assert ratios(config, group_size=5) == pytest.approx([0.1, 0.3, 0.5, 0.7, None])
    config = GuidanceConfig(n_demonstrations=-1, schedule="fixed", min_ratio=0.0, max_ratio=1.0)
    assert ratios(config, group_size=3) == pytest.approx([None, 0.5, 1.0])


def test_a_shared_ratio_is_one_for_the_prompt_and_the_step():
    config = GuidanceConfig(n_demonstrations=-1, schedule="random", min_ratio=0.0, share_ratio=True)
    assert len(set(ratios(config))) == 1
    assert ratios(config) != ratios(config, step=2)
    assert ratios(config) != ratios(config, prompt_key="q")


def test_sampling_leaves_whole_prompts_out():
    config = GuidanceConfig(n_demonstrations=2, sampling_ratio=0.3)
    kept = [sum(each is not None for each in rows(config, prompt_key=key)) for key in range(2000)]
    assert set(kept) == {0, 2}
    assert statistics.mean(kept) / 2 == pytest.approx(0.3, abs=0.03)
    assert rows(GuidanceConfig(sampling_ratio=0.0)) == [None] * 8


@pytest.mark.parametrize(("selection", "order"), [("first", [0, 1, 2, 0]), ("shortest", [1, 2, 0, 1])])
def test_traces_go_to_rows_in_order_and_start_over(selection, order):
    config = GuidanceConfig(n_demonstrations=4, selection=selection)
    given = rows(config, traces=(R1, R1_SHORT, QWQ))[:4]
    assert [each.index for each in given] == order
    assert given[0].trace is (R1, R1_SHORT, QWQ)[order[0]]


def test_random_selection_takes_every_trace_first_equally_often():
    config = GuidanceConfig(selection="random")
    first = [rows(config, traces=(R1, R1_SHORT, QWQ), step=step)[0].index for step in range(1, 1201)]
    assert all(first.count(index) == pytest.approx(400, abs=60) for index in range(3))
    every = rows(GuidanceConfig(n_demonstrations=3, selection="random"), traces=(R1, R1_SHORT, QWQ))
    assert {each.index for each in every[:3]} == {0, 1, 2}


def test_round_robin_alternates_sources_over_rows_and_steps():
    traces = (R1, R1_SHORT, QWQ)
    config = GuidanceConfig(n_demonstrations=3, selection="round_robin")
    orders = [[each.index for each in rows(config, traces=traces, step=step)[:3]] for step in (1, 2, 3)]
    assert sorted(orders[:2]) == [[0, 2, 1], [2, 0, 1]]
    assert orders[2] == orders[0]


def test_decisions_depend_on_their_arguments_alone():
    """Whatever the global generators do, and in another process."""
    config = GuidanceConfig(n_demonstrations=2, schedule="random", min_ratio=0.0, selection="random", seed=5)
    here = ratios(config, prompt_key=17)
    random.seed(1)
    torch.manual_seed(1)
    assert ratios(config, prompt_key=17) == here
    assert ratios(config, prompt_key="17") == here
    code = (
        "from luffy.guidance import *\nfrom luffy.traces import Trace\n"
        "config = GuidanceConfig(n_demonstrations=2, schedule='random', min_ratio=0.0, selection='random', seed=5)\n"
        "print([demonstration_for_row(config, [Trace(text='t')], row=row, group_size=8, step=1, prompt_key=17).ratio "
        "for row in (1, 0)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == repr([here[1], here[0]])


def test_the_seed_matters():
    first, second = (GuidanceConfig(schedule="random", min_ratio=0.0, seed=seed) for seed in (0, 1))
    assert ratios(first) != ratios(second)


def test_a_stored_success_rate_withholds_demonstrations():
    """Below the bound and where nothing is known they are given; at the bound and above they are not, before anything is generated."""
    config = GuidanceConfig(n_demonstrations=2, policy_success_below=0.5)
    given = {
        share: [
            demonstration_for_row(config, (R1,), row=row, group_size=3, step=1, prompt_key="p", policy_success=share) is not None
            for row in range(3)
        ]
        for share in (None, 0.0, 0.49, 0.5, 1.0)
    }
    assert given == {None: [True, True, False], 0.0: [True, True, False], 0.49: [True, True, False], 0.5: [False] * 3, 1.0: [False] * 3}
    nan = demonstration_for_row(config, (R1,), row=0, group_size=3, step=1, prompt_key="p", policy_success=float("nan"))
    assert nan is not None  # a null of the column, as pandas reads it
    always = demonstration_for_row(GuidanceConfig(), (R1,), row=0, group_size=3, step=1, prompt_key="p", policy_success=1.0)
    assert always is not None


def test_guidance_on_demand():
    """Group a fails (on-policy mean 0), b is at 1/2, c has no on-policy row; the demonstrations' own rewards are
    not asked."""
    groups = ["a", "a", "a", "b", "b", "b", "c"]
    off = torch.tensor([True, False, False, True, False, False, True])
    rewards = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0])
    assert guided_rows(rewards, groups, off, 0.5).tolist() == [True, True, True, False, True, True, True]
    assert guided_rows(rewards, groups, off, 0.51).all()
    assert guided_rows(rewards, groups, off, 0.0).tolist() == [False, True, True, False, True, True, True]
    assert guided_rows(rewards, groups, off, None).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_demonstrations": -2}, "n_demonstrations is -2"),
        ({"n_demonstrations": True}, "n_demonstrations is True; it must be an integer"),
        ({"schedule": "cosine"}, "schedule is 'cosine'; it must be one of full, random"),
        ({"schedule": "random", "min_ratio": 0.8, "max_ratio": 0.2}, "min_ratio is 0.8, above max_ratio 0.2"),
        ({"schedule": "random", "min_ratio": -0.1}, "min_ratio is -0.1"),
        ({"schedule": "random", "min_ratio": 0.0, "max_ratio": 0.0}, "max_ratio is 0.0"),
        ({"max_ratio": 0.5}, "max_ratio is 0.5, but schedule full"),
        ({"min_ratio": 0.5}, "min_ratio is 0.5, but schedule full does not read it"),
        ({"schedule": "linear"}, "schedule linear needs steps"),
        ({"steps": 100}, "steps is 100, but schedule full does not read it"),
        ({"schedule": "fixed", "share_ratio": True}, "share_ratio is true, but schedule fixed"),
        ({"sampling_ratio": 1.5}, "sampling_ratio is 1.5"),
        ({"on_demand_below": 0.5, "n_demonstrations": -1}, "on_demand_below needs"),
        ({"on_demand_below": 0.5, "n_demonstrations": 0}, "on_demand_below needs"),
        ({"policy_success_below": 0.0}, "policy_success_below is 0.0"),
        ({"policy_success_below": 0.5, "n_demonstrations": 0}, "policy_success_below needs demonstrations"),
    ],
)
def test_config_mistakes_are_named(settings, message):
    with pytest.raises(InputError, match=f"luffy.guidance.{message}"):
        GuidanceConfig(**settings)


def test_group_size():
    with pytest.raises(InputError, match="n_demonstrations is 9, but a group has 8 rows"):
        GuidanceConfig(n_demonstrations=9).check_group_size(8)
    with pytest.raises(InputError, match="fixed with one demonstration"):
        GuidanceConfig(schedule="fixed", min_ratio=0.2).check_group_size(8)
    with pytest.raises(InputError, match="a group has 1 rows"):
        rows(GuidanceConfig(n_demonstrations=2), group_size=1)
    GuidanceConfig(n_demonstrations=-1).check_group_size(1)


def test_demonstrations_may_replace_the_rollouts_of_a_group():
    """HPT's gate: a (none right) keeps its demonstration alone, b (one right) its rollouts alone, c has no demonstration to keep."""
    rewards = torch.tensor([1.0, 0, 0, 1, 1, 0, 0, 0])
    groups = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])
    off_policy = torch.tensor([True, False, False, True, False, False, False, False])
    kept = guided_rows(rewards, groups, off_policy, 0.01, replaces=True)
    assert kept.tolist() == [True, False, False, False, True, True, True, True]
    assert guided_rows(rewards, groups, off_policy, -1.0, replaces=True).tolist() == (~off_policy).tolist()  # g = -1: on-policy RL
    assert guided_rows(rewards, groups, off_policy, 2.0, replaces=True).tolist() == [True, False, False, True, False, False, True, True]
