"""Alarms: each condition at its bound, for so many steps, once."""

from __future__ import annotations

import pytest

from luffy.alarms import ALARMS, Alarms
from luffy.safety import SafetyConfig

SOUND = {
    "on_policy/entropy": 0.3, "on_policy/reward": 0.4, "on_policy/truncated_share": 0.1, "off_policy/truncated_share": 0.0,
    "actor/ppo_kl": 0.001, "off_policy/probability": 0.5,
}  # fmt: skip


def said(steps: list[dict[str, float]], **config: float) -> list[tuple[int, str]]:
    """The number of the step, from 1, and the line, of each alarm."""
    alarms = Alarms(SafetyConfig(alarm_steps=3, **config))
    return [(number, line) for number, metrics in enumerate(steps, 1) for line in alarms.look(metrics)]


@pytest.mark.parametrize(
    ("metric", "sound", "bad", "words"),
    [
        ("on_policy/entropy", 0.02, 0.0199, "the entropy has collapsed (0.0199 nats a token)"),
        ("on_policy/reward", 0.001, 0.0, "no rollout earns a reward"),
        ("on_policy/reward", 0.999, 1.0, "every rollout is right"),
        ("on_policy/truncated_share", 0.49, 0.5, "50% of the responses end at the limit of data.max_response_length"),
        ("off_policy/truncated_share", 0.49, 0.75, "75% of the demonstrations are cut"),
        ("actor/ppo_kl", -0.05, -0.06, "are -0.060 apart"),
    ],
)
def test_a_condition_that_holds_for_three_steps_is_said_once(metric: str, sound: float, bad: float, words: str) -> None:
    moving = [{**SOUND, "off_policy/probability": 0.5 + step / 100, metric: bad} for step in range(8)]
    ((step, line),) = said(moving)
    assert step == 3 and line.startswith("for 3 steps ") and words in line
    assert said([{**each, metric: sound} for each in moving]) == []
    broken_off = [moving[0], moving[1], {**moving[2], metric: sound}, *moving[3:]]
    assert [step for step, _ in said(broken_off)] == [6]


def test_a_missing_number_and_one_that_is_none_are_no_alarm() -> None:
    assert said([{}] * 10 + [{"on_policy/reward": float("nan")}] * 10) == []


def test_the_samplers_difference_comes_before_the_trainers() -> None:
    steps = [{"actor/ppo_kl": 0.0, "training/rollout_probs_diff_mean": 0.2}] * 3
    assert [step for step, _ in said(steps)] == [3] and said(steps, alarm_gap=0.3) == []


def test_demonstrations_that_stand_still() -> None:
    ((step, line),) = said([SOUND] * 20)
    assert step == 15 and "does not move (0.5000 for 15 steps)" in line
    assert said([{**SOUND, "off_policy/probability": 0.5 + 0.001 * (step % 2)} for step in range(20)]) == []


def test_every_alarm_says_what_to_look_at() -> None:
    assert all(";" in alarm.said or ":" in alarm.said for alarm in ALARMS.values())
