"""Policy shaping: what the objective makes of an importance ratio.

With r the ratio and x = log r, a shaping is a function f(r); the gradient weight on ∇log π is ∂f/∂x:

    identity     r             r
    log          w·log r       w
    p_plus_log   r + w·log r   r + w
    sqrt         √r            √r / 2
    pow          r^a           a·r^a
    p_div_p      r / (r + γ)   γ·r / (r + γ)²       (equation 7 of the paper)

``p_div_p`` peaks at r = γ: tokens to which the policy gives little probability keep a learning signal that plain r loses. It is
computed as the sigmoid of x - log γ, which is the same number.

Off policy r is π_θ / π_φ, and π_θ itself where the demonstration's own probability π_φ is taken as 1. On policy r is
π_θ / π_old, but for ``p_div_p``, which there is f(π_θ) / f(π_old), as in the released code.

A new shaping is one class here: its name, its parameters as fields, and f.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, dataclass_transform

import torch
from torch import Tensor

from luffy.objective.choice import Choice, parameters_of, read_choice, readers_of, register
from luffy.settings import Positive

SHAPINGS: dict[str, type[Shaping]] = {}


class Shaping(Choice):
    """A function of an importance ratio, with its parameters."""

    reads_old_log_prob: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, log_ratio: Tensor) -> Tensor:
        """f(r), a function of log r.

        Args:
            log_ratio: log r, any shape, in nats.

        Returns:
            f(r), of the same shape.
        """

    def on_policy(self, log_ratio: Tensor, old_log_prob: Tensor) -> Tensor:
        """f of an on-policy token: 1 (0 for ``log``) where the two policies agree.

        Args:
            log_ratio: log π_θ - log π_old, any shape, in nats.
            old_log_prob: log π_old, of the same shape; read where ``reads_old_log_prob``.
        """
        return self(log_ratio)

    @classmethod
    def kinds(cls) -> dict[str, type[Shaping]]:
        """All shapings by name."""
        return SHAPINGS

    @classmethod
    def read(cls, node: Any, where: str) -> Shaping:
        """:func:`read_shaping`."""
        return read_shaping(node, where)


def parameters() -> dict[str, Any]:
    """Parameters of all shapings and their defaults."""
    return parameters_of(SHAPINGS)


def readers(parameter: str) -> list[str]:
    """Names of the shapings that have a parameter."""
    return readers_of(SHAPINGS, parameter)


@dataclass_transform(kw_only_default=True, frozen_default=True)
def shaping(name: str) -> Callable[[type], type]:
    """Register a shaping under its name in ``luffy.objective.shaping.name``; its fields are settings."""
    return register(SHAPINGS, name, "luffy.objective.shaping")


@shaping("identity")
class Identity(Shaping):
    """The plain importance ratio."""

    def __call__(self, log_ratio: Tensor) -> Tensor:
        return log_ratio.exp()


@shaping("log")
class Log(Shaping):
    """Every token has the same gradient weight, as in supervised fine-tuning."""

    weight: float = 0.1
    """w. Paper: not used."""

    def __call__(self, log_ratio: Tensor) -> Tensor:
        return self.weight * log_ratio


@shaping("p_plus_log")
class PPlusLog(Shaping):
    """The ratio, and a floor under its gradient weight."""

    weight: float = 0.1
    """w. Paper: not used."""

    def __call__(self, log_ratio: Tensor) -> Tensor:
        return log_ratio.exp() + self.weight * log_ratio


@shaping("sqrt")
class Sqrt(Shaping):
    """The square root of the ratio."""

    def __call__(self, log_ratio: Tensor) -> Tensor:
        return (0.5 * log_ratio).exp()


@shaping("pow")
class Pow(Shaping):
    """A power of the ratio."""

    exponent: Positive = 0.5
    """a. Paper: not used."""

    def __call__(self, log_ratio: Tensor) -> Tensor:
        return (self.exponent * log_ratio).exp()


@shaping("p_div_p")
class PDivP(Shaping):
    """The paper's policy shaping."""

    reads_old_log_prob = True

    gamma: Positive = 0.1
    """γ, a probability; the learning signal peaks at tokens of this probability. Paper: 0.1."""

    def __call__(self, log_ratio: Tensor) -> Tensor:
        return torch.sigmoid(log_ratio - math.log(self.gamma))

    def on_policy(self, log_ratio: Tensor, old_log_prob: Tensor) -> Tensor:
        """f(π_θ) / f(π_old), as in the released code."""
        old = old_log_prob - math.log(self.gamma)
        return torch.sigmoid(log_ratio + old) / torch.sigmoid(old)


def read_shaping(node: Any, where: str) -> Shaping:
    """The shaping that a config node asks for; see :func:`luffy.objective.choice.read_choice`."""
    return read_choice(SHAPINGS, "shaping", node, where)
