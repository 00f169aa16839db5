"""A number that changes over training: one class for coefficients, shares and thresholds.

With step t = 0, 1, ... and x = (t - begin) / (until - begin),

    t < warm_up             start · t / warm_up                 (rises from 0)
    t < begin               start                               (delay)
    begin <= t < until      linear: start + (end - start) · x       cosine: end + (start - end) · (1 + cos πx) / 2
    t >= until              after, or end where there is none

A plain number is constant. Source: μ of CHORD (warm-up, then cosine), the bounds of Prefix-RFT, p of UFT (cosine, then 0), β of KDRL (linear).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from luffy.settings import NotNegative, Share, build, require, settings

_WHERE = "schedule"
_Step = Annotated[int, Field(ge=0)]


@settings(_WHERE)
class Schedule:
    """A number for each training step; steps are counted from 0."""

    shape: Literal["linear", "cosine"] = "linear"
    """How it goes from start to end."""

    start: float
    """Value before ``begin``."""

    end: float
    """Value from ``until`` on."""

    begin: _Step = 0
    """First step of the way: a delay, in steps."""

    until: _Step
    """First step after the way; above ``begin``."""

    warm_up: _Step = 0
    """Steps over which it rises from 0 to start, linearly; at most ``begin``."""

    after: float | None = None
    """Value from ``until`` on, where it is not ``end``."""

    def __post_init__(self) -> None:
        require(self.until > self.begin, f"{_WHERE}.until is {self.until}, and begin {self.begin}: it ends before it begins; raise until")
        require(
            self.warm_up <= self.begin,
            f"{_WHERE}.warm_up is {self.warm_up}, and begin {self.begin}: it moves before it is warm; raise begin to warm_up or more",
        )

    @classmethod
    def read(cls, node: Any, where: str) -> Schedule:
        """The schedule of a config node, a mapping of the fields above; a key that is null has its default.

        Args:
            node: the mapping.
            where: full key of the node, for messages.

        Raises:
            InputError: an unknown or missing key, a wrong value, or a schedule that ends before it begins.
        """
        given = {key: value for key, value in node.items() if value is not None} if isinstance(node, Mapping) else node
        return build(cls, given, where)

    def at(self, step: int) -> float:
        """The value at a step, counted from 0."""
        if step < self.warm_up:
            return self.start * step / self.warm_up
        if step < self.begin:
            return self.start
        if step >= self.until:
            return self.end if self.after is None else self.after
        x = (step - self.begin) / (self.until - self.begin)
        if self.shape == "linear":
            return self.start + (self.end - self.start) * x
        return self.end + (self.start - self.end) * 0.5 * (1 + math.cos(math.pi * x))

    @property
    def values(self) -> tuple[float, ...]:
        """The values between which it moves."""
        return (*([0.0] if self.warm_up else []), self.start, self.end, *([] if self.after is None else [self.after]))


Coefficient = NotNegative | Schedule
"""A factor of at least 0, constant or over training."""

ShareOverTime = Share | Schedule
"""A share in [0, 1], constant or over training."""


def at(number: float | Schedule, step: int) -> float:
    """The value of a number that may be a schedule, at a step counted from 0."""
    return number.at(step) if isinstance(number, Schedule) else number


def values(number: float | Schedule | None) -> tuple[float, ...]:
    """Between which values a number moves; empty where there is none."""
    if number is None:
        return ()
    return number.values if isinstance(number, Schedule) else (number,)


def is_on(number: float | Schedule | None) -> bool:
    """Whether a coefficient is ever above 0."""
    return any(value > 0 for value in values(number))


def require_within(number: float | Schedule | None, low: float, high: float, where: str) -> None:
    """Raise an InputError unless every value of a number is in [low, high]."""
    bounds = f"at least {low:g}" if high == math.inf else f"in [{low:g}, {high:g}]"
    for value in values(number):
        require(low <= value <= high, f"{where} has the value {value:g}; it must be {bounds} at every step")
