"""What a run does about faults: how long a phase may take, what a broken checkpoint or a failed save means, what is a bad number.

Nothing here changes what a sound run computes, so a run goes on in its folder with other values.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from luffy.settings import NotNegative, Positive, settings


class Phase(StrEnum):
    """What a training does at a time, in a person's words."""

    START = "start"
    ROLLOUT = "rollout"
    REWARD = "reward"
    UPDATE = "update"
    WEIGHT_SYNC = "weight sync"
    CHECKPOINT = "checkpoint"
    VALIDATION = "validation"
    RECORD = "record of the step"


@settings("luffy.safety")
class SafetyConfig:
    """What is done about faults: bounds on each phase, checkpoints, bad numbers."""

    start_s: Positive = 3600.0
    """Seconds from the start to the first step, at most; large models load for long."""

    rollout_s: Positive = 14400.0
    """Seconds that sampling a step's responses, verdicts included, takes at most."""

    reward_s: Positive = 7200.0
    """Seconds that a reward model on the training's devices takes at most for a step; the verifier's time is the rollout's."""

    update_s: Positive = 14400.0
    """Seconds of log-probabilities, advantages and updates of a step, at most."""

    weight_sync_s: Positive = 1800.0
    """Seconds of bringing the weights into the rollout engines, at most."""

    checkpoint_s: Positive = 3600.0
    """Seconds of a save, at most."""

    validation_s: Positive = 28800.0
    """Seconds of answering the held-out problems once, at most."""

    record_s: Positive = 600.0
    """Seconds of a step's metrics, loggers included, at most."""

    times_longest: Annotated[float, Field(gt=1)] = 20.0
    """Once a phase has ended, it may take so many times the longest that it has taken in this start; never more than the bound above."""

    least_s: Positive = 300.0
    """Seconds that a phase may take however short it was before."""

    heartbeat: Annotated[float, Field(gt=1)] = 3.0
    """A line says what is waited for when a phase takes so many times the longest before, and again at each doubling."""

    heartbeat_s: Positive = 120.0
    """Seconds before the first such line."""

    broken_checkpoint: Literal["skip", "refuse"] = "skip"
    """What follows where the newest checkpoint is broken: skip it for the newest good one, or refuse to start."""

    failed_save: Literal["go_on", "end"] = "go_on"
    """What follows where a checkpoint cannot be written (a full disk): go on without it, or end with the last good one."""

    bad_steps: Annotated[int, Field(ge=0)] = 3
    """Steps in a row with NaN or infinity in loss or gradient, which are not learned from, their rows written; one more ends the run."""

    open_cluster: bool = False
    """Join a Ray cluster of several machines that asks for no token: whoever reaches its ports runs code there."""

    row_retries: Annotated[int, Field(ge=0)] = 2
    """How often the request of a row that failed is made again; after that the row is lost (luffy.run.lost_rows)."""

    alarm_steps: Annotated[int, Field(ge=1)] = 10
    """Steps in a row after which a condition is an alarm, such as a reward that stays at 0."""

    alarm_entropy: NotNegative = 0.02
    """Entropy in nats a token below which it has collapsed."""

    alarm_gap: Positive = 0.05
    """Difference between sampler and trainer on the same tokens (mean of their probabilities', or of log-probabilities) above which they
    disagree."""

    def bound(self, phase: Phase) -> float:
        """Seconds that a phase takes at most."""
        return {
            Phase.START: self.start_s,
            Phase.ROLLOUT: self.rollout_s,
            Phase.REWARD: self.reward_s,
            Phase.UPDATE: self.update_s,
            Phase.WEIGHT_SYNC: self.weight_sync_s,
            Phase.CHECKPOINT: self.checkpoint_s,
            Phase.VALIDATION: self.validation_s,
            Phase.RECORD: self.record_s,
        }[phase]

    def allowed(self, phase: Phase, longest: float | None) -> float:
        """Seconds that a phase may take now; ``longest``: seconds that it has taken in this start so far, None before its first end."""
        if longest is None:
            return self.bound(phase)
        return min(self.bound(phase), max(self.least_s, self.times_longest * longest))
