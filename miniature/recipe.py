"""How the embedded base model is made: the noise of the responses that it imitates, and its training, as parameters."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from luffy.errors import InputError
from miniature.task import DIGITS, SEMICOLON_SHARE, response_length


@dataclass(frozen=True, kw_only=True)
class CarryNoise:
    """The left operand of a link: the right digit, the constant 0, or any digit.

    Attributes:
        right: probability in [0, 1] of the right digit. It makes the base's skill.
        zero: probability in [0, 1] of the constant 0, which gives greedy decoding something wrong to choose.
    """

    right: float = 0.1
    zero: float = 0.3

    def __post_init__(self) -> None:
        if min(self.right, self.zero) < 0 or self.right + self.zero > 1:
            raise InputError(
                f"a link cannot be right with probability {self.right} and 0 with {self.zero}: "
                "give two shares of at least 0 whose sum is at most 1"
            )

    def draw(self, last: int, rng: random.Random) -> int:
        """Draw a left operand after a sum that ends with the digit ``last``."""
        draw = rng.random()
        if draw < self.right:
            return last
        return 0 if draw < self.right + self.zero else rng.randrange(10)

    def probabilities(self, last: int) -> list[float]:
        """Probability of each digit after a sum that ends with ``last``."""
        uniform = (1 - self.right - self.zero) / 10
        return [uniform + self.right * (digit == last) + self.zero * (digit == 0) for digit in range(10)]

    def solved_share(self, digits: int = DIGITS) -> float:
        """Share of problems that a perfect imitator solves: all its links are right by chance."""
        right_link = sum(self.probabilities(last)[last] for last in range(10)) / 10
        return right_link ** (digits - 2)

    def entropy(self, digits: int = DIGITS) -> float:
        """Nats a response token (end-of-sequence included) that no imitator can save."""
        link = sum(_entropy(self.probabilities(last)) for last in range(10)) / 10
        separator = _entropy([SEMICOLON_SHARE, 1 - SEMICOLON_SHARE])
        return ((digits - 2) * link + (digits - 1) * separator) / (response_length(digits) + 1)


def _entropy(probabilities: list[float]) -> float:
    return -sum(p * math.log(p) for p in probabilities if p > 0)


@dataclass(frozen=True, kw_only=True)
class BaseRecipe:
    """Pre-training of the embedded base model.

    Attributes:
        noise: how the responses that it imitates carry a sum into the next link.
        steps: optimizer steps.
        batch: responses a step.
        learning_rate: AdamW's, at its peak: it rises linearly over ``warmup`` steps and falls linearly to
            ``final_share`` of the peak.
        clip_norm: bound of the gradient's norm.
    """

    noise: CarryNoise = field(default_factory=CarryNoise)
    steps: int = 800
    batch: int = 32
    learning_rate: float = 3e-3
    warmup: int = 50
    final_share: float = 0.05
    clip_norm: float = 1.0

    def rate(self, step: int) -> float:
        """Share of the peak learning rate at a step, counted from 0."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return 1 - (1 - self.final_share) * done
