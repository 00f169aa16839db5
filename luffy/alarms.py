"""Conditions of a training that a person should hear of, each once, with its likely cause: a pure function of the metrics so far."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from luffy import metric_names as names
from luffy.safety import SafetyConfig

MOSTLY = 0.5  # share of the rollouts
STILL = 1e-4  # difference of probabilities
STILL_WINDOWS = 5  # of alarm_steps


class Alarm(NamedTuple):
    """A condition on one step's metrics, and what is said where it holds for a number of steps; ``{value}`` is the last step's."""

    metrics: tuple[str, ...]
    holds: Callable[[float, SafetyConfig], bool]
    said: str


ALARMS: Mapping[str, Alarm] = {
    "entropy": Alarm(
        ("on_policy/entropy",),
        lambda value, config: value < config.alarm_entropy,
        "the entropy has collapsed ({value:.4f} nats a token): the rollouts of a group are nearly the same, and nothing new is found; "
        "raise luffy.entropy.coefficient, or lower the learning rate",
    ),
    "reward 0": Alarm(
        ("on_policy/reward",),
        lambda value, config: value == 0.0,
        "no rollout earns a reward: on-policy rows teach nothing; easier problems, more demonstrations, or a look at the answers",
    ),
    "reward 1": Alarm(
        ("on_policy/reward",),
        lambda value, config: value == 1.0,
        "every rollout is right: there is nothing left to learn from these problems; harder ones, or an end",
    ),
    "truncated": Alarm(
        ("on_policy/truncated_share", "response_length/clip_ratio"),
        lambda value, config: value >= MOSTLY,
        "{value:.0%} of the responses end at the limit of data.max_response_length: they are judged unfinished; raise it, or look whether the "
        "model still ends its answers",
    ),
    "demonstrations cut": Alarm(
        ("off_policy/truncated_share",),
        lambda value, config: value >= MOSTLY,
        "{value:.0%} of the demonstrations are cut at data.max_response_length: the model learns answers without an end; raise it",
    ),
    "apart": Alarm(
        ("training/rollout_probs_diff_mean", names.PPO_KL),
        lambda value, config: abs(value) > config.alarm_gap,
        "the sampler's and the trainer's log-probabilities of the same tokens are {value:.3f} apart: the ratios are wrong; look at the "
        "precision (rollout.dtype, fsdp_config.model_dtype), the weight sync and the chat template",
    ),
}
STANDING = (
    "the demonstrations' probability does not move ({value:.4f} for {steps} steps): they are not learned from; look at the learning rate, "
    "luffy.objective.shaping and luffy.guidance"
)


class Alarms:
    """The alarms of a run, as its metrics come in."""

    def __init__(self, config: SafetyConfig) -> None:
        self._config = config
        self._in_a_row = dict.fromkeys(ALARMS, 0)
        self._demonstrations: deque[float] = deque(maxlen=STILL_WINDOWS * config.alarm_steps)
        self._said: set[str] = set()

    def look(self, metrics: Mapping[str, float]) -> Iterator[str]:
        """Lines of the conditions that now hold for ``luffy.safety.alarm_steps`` steps, each once.

        Args:
            metrics: those of the next step; a condition whose metric is missing begins anew.
        """
        for name, alarm in ALARMS.items():
            value = next((metrics[each] for each in alarm.metrics if each in metrics), math.nan)
            self._in_a_row[name] = self._in_a_row[name] + 1 if not math.isnan(value) and alarm.holds(value, self._config) else 0
            if self._in_a_row[name] >= self._config.alarm_steps and self._first(name):
                yield f"for {self._in_a_row[name]} steps {alarm.said.format(value=value)}"
        if "off_policy/probability" in metrics:
            seen = self._demonstrations
            seen.append(metrics["off_policy/probability"])
            if len(seen) == seen.maxlen and max(seen) - min(seen) < STILL and self._first("standing"):
                yield STANDING.format(value=seen[-1], steps=len(seen))

    def _first(self, name: str) -> bool:
        new = name not in self._said
        self._said.add(name)
        return new
