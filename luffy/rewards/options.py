"""The verifier's options: names, types, defaults and bounds, for a :class:`~luffy.rewards.Grader` and for ``reward.reward_kwargs``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from luffy.settings import Positive, settings

WHERE = "reward.reward_kwargs"


@settings("Grader")
class WorkerLimits:
    """Of the worker processes."""

    workers: Annotated[int, Field(gt=0)] | None = None
    """Worker processes; None for one per core, at most 8, in training shared among veRL's reward workers."""
    time_limit_s: Positive = 5.0
    """Seconds of CPU that one verdict may take, and 4 times as many of wall clock; its worker is then killed and replaced."""
    memory_limit_mb: Annotated[int, Field(gt=0)] = 2048
    """MiB of address space that a worker may have."""


@settings("Grader")
class GraderOptions(WorkerLimits):
    """Of a grader."""

    remembered: Annotated[int, Field(ge=0)] = 1 << 16
    """Comparisons whose outcome is kept, the latest ones."""


@settings(WHERE)
class RewardOptions(WorkerLimits):
    """How responses are judged in training and in its validation."""

    thought_gate: bool = True
    """A response without ``</think>`` gets 0. The released script does so without saying it."""
    partial_scores: bool = False
    """A wrong answer gets what the scorer of its kind gives for it (procedural tasks), in [0, 1); else 0."""
