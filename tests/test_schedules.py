"""Schedules: the numbers of the methods that have them, and what is refused."""

import math
import re

import pytest

from luffy.config import LuffyConfig
from luffy.digests import uniform
from luffy.errors import InputError
from luffy.guidance import GuidanceConfig, demonstration_for_row
from luffy.objective import ObjectiveConfig
from luffy.schedules import Schedule, at, is_on, values
from luffy.traces import Trace


def test_mu_of_chord():
    mu = Schedule(shape="cosine", start=0.9, end=0.05, until=200)
    for step, value in {0: 0.9, 50: 0.77552, 100: 0.475, 200: 0.05, 900: 0.05}.items():
        assert mu.at(step) == pytest.approx(value, abs=5e-6)


def test_warm_up_then_cosine():
    """t/W of the peak, then valley + (peak - valley)·½(1 + cos π(t-W)/D)."""
    mu = Schedule(shape="cosine", start=0.5, end=0.02, warm_up=200, begin=200, until=600)
    assert [mu.at(0), mu.at(50), mu.at(200), mu.at(600)] == pytest.approx([0, 0.125, 0.5, 0.02])
    assert mu.at(300) == pytest.approx(0.02 + 0.48 * 0.5 * (1 + math.cos(math.pi / 4)))
    assert mu.values == (0.0, 0.5, 0.02)


def test_p_of_uft_ends_at_0():
    p = Schedule(shape="cosine", start=0.95, end=0.05, until=300, after=0.0)
    for step, value in {0: 0.95, 75: 0.8182, 150: 0.5, 299: 0.05002, 300: 0.0}.items():
        assert p.at(step) == pytest.approx(value, abs=5e-5 if step == 75 else 5e-6)


def test_linear_with_a_delay():
    beta = Schedule(start=0.005, end=0.001, begin=10, until=20)
    assert [beta.at(step) for step in (0, 10, 15, 19, 20)] == pytest.approx([0.005, 0.005, 0.003, 0.0014, 0.001])


def test_a_number_is_constant():
    assert at(0.3, 900) == 0.3 and values(0.3) == (0.3,) and values(None) == ()
    assert is_on(Schedule(start=0.0, end=0.1, until=3)) and not is_on(Schedule(start=0.0, end=0.0, until=3)) and not is_on(0.0)


NODE = {"shape": "linear", "start": 1.0, "end": 0.0, "until": 10}


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({**NODE, "until": 0}, "luffy.objective.sft_coefficient.until is 0, and begin 0: it ends before it begins; raise until"),
        ({**NODE, "begin": 12}, "luffy.objective.sft_coefficient.until is 10, and begin 12: it ends before it begins"),
        ({**NODE, "warm_up": 3}, "luffy.objective.sft_coefficient.warm_up is 3, and begin 0: it moves before it is warm"),
        ({**NODE, "shape": "cos"}, "luffy.objective.sft_coefficient.shape is 'cos'; it must be one of linear, cosine"),
        ({**NODE, "untill": 3}, "unknown key luffy.objective.sft_coefficient.untill; did you mean luffy.objective.sft_coefficient.until?"),
        ({"start": 1.0, "end": 0.0}, "luffy.objective.sft_coefficient.until is missing; it must be an integer of at least 0"),
        ({**NODE, "end": -1.0}, "luffy.objective.sft_coefficient has the value -1; it must be at least 0 at every step"),
    ],
)
def test_mistakes_are_named(node, message):
    with pytest.raises(InputError, match=re.escape(message)):
        LuffyConfig.from_mapping({"objective": {"sft_coefficient": node}})


def test_a_schedule_is_a_coefficient():
    config = LuffyConfig.from_mapping({"objective": {"sft_coefficient": NODE, "imitation_share": {**NODE, "until": 4}}}).objective
    assert config == ObjectiveConfig(
        sft_coefficient=Schedule(start=1.0, end=0.0, until=10), imitation_share=Schedule(start=1.0, end=0.0, until=4)
    )
    assert config.scheduled(2) == {"sft_coefficient": 0.8, "imitation_share": 0.5}
    assert config.coefficient("sft", 2) == pytest.approx(0.8 * 0.5) and config.coefficient("policy", 2) == 0.5


def shares(config, step, rows=1, prompts=2000):
    traces = [Trace(text="a")]
    return [
        [
            given.ratio if (given := demonstration_for_row(config, traces, row=row, group_size=8, step=step, prompt_key=key)) else 0.0
            for row in range(rows)
        ]
        for key in range(prompts)
    ]


def test_the_bounds_of_a_share_may_move():
    """Prefix-RFT: U(lo_t, hi); steps are counted from 1 there. At step 6 of 10, lo = 0.9 · ½."""
    config = GuidanceConfig(schedule="random", min_ratio=Schedule(start=0.9, end=0.0, until=10), max_ratio=0.9)
    assert {share for (share,) in shares(config, 1, prompts=20)} == {0.9}
    drawn = [share for (share,) in shares(config, 6)]
    assert 0.45 <= min(drawn) < 0.46 and 0.89 < max(drawn) < 0.9
    assert sum(drawn) / len(drawn) == pytest.approx(0.675, abs=0.01)


def test_a_binomial_share_is_one_for_the_prompt():
    """UFT: chunks of 5, each with probability p; mean p, variance p(1 - p)/5."""
    config = GuidanceConfig(schedule="binomial", chunk_probability=0.3, share_ratio=True, n_demonstrations=-1)
    drawn = shares(config, 4, rows=8)
    assert all(len(set(row)) == 1 for row in drawn)
    first = [row[0] for row in drawn]
    assert {round(5 * share) for share in first} == {0, 1, 2, 3, 4, 5} or max(first) == 0.8
    mean = sum(first) / len(first)
    assert mean == pytest.approx(0.3, abs=0.015)
    assert sum((share - mean) ** 2 for share in first) / len(first) == pytest.approx(0.3 * 0.7 / 5, abs=0.004)
    expected = sum(uniform(0, "chunk", number, "shared", 4, 7) < 0.3 for number in range(5)) / 5
    assert drawn[7][0] == expected
    ended = GuidanceConfig(
        schedule="binomial", chunk_probability=Schedule(shape="cosine", start=0.95, end=0.05, until=300, after=0.0), n_demonstrations=-1
    )
    assert {share for (share,) in shares(ended, 301, prompts=50)} == {0.0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chunks": 3}, "luffy.guidance.chunks is 3, but schedule full does not read it"),
        ({"schedule": "binomial", "max_ratio": 0.5}, "luffy.guidance.max_ratio is 0.5, but schedule binomial does not read it"),
        (
            {"schedule": "random", "min_ratio": Schedule(start=0.2, end=0.8, until=9), "max_ratio": 0.5},
            "luffy.guidance.min_ratio is 0.8, above max_ratio 0.5 at step 9; lower it",
        ),
        ({"schedule": "random", "min_ratio": Schedule(start=0.2, end=1.8, until=9)}, "luffy.guidance.min_ratio has the value 1.8"),
        ({"on_demand_replaces": True}, "luffy.guidance.on_demand_replaces is true, but on_demand_below is null"),
    ],
)
def test_contradictions_of_the_guidance_are_named(settings, message):
    with pytest.raises(InputError, match=re.escape(message)):
        GuidanceConfig(**settings)
