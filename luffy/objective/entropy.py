"""The entropy bonus's coefficient α: fixed, learned, or by rule. It lives in the trainer's process.

    fixed      α
    learned    gradient descent on log α of α · (H - H_target), by Adam: α rises while the entropy H is below its target
    rule       α = α_0 · H_target / H

Source: options of the released code. There the learned α is decayed by AdamW towards 1 and the rule uses each
micro-batch's own entropy; here there is no decay, and the entropy is that of the last mini-batch that was measured.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any, Literal, Protocol

import torch

from luffy.settings import NotNegative, Positive, require, settings

_WHERE = "luffy.entropy"
_SMALLEST_ENTROPY = 1e-6  # nats; keeps the rule finite

logger = logging.getLogger(__name__)


@settings(_WHERE)
class EntropyConfig:
    """The entropy bonus."""

    mode: Literal["fixed", "learned", "rule"] = "fixed"
    """How the coefficient changes: fixed, learned (log α by Adam), rule (α_0 · target / entropy). Paper: fixed."""

    coefficient: NotNegative = 0.001
    """α, or its first value α_0. Paper: 0.01; script: 0.001."""

    target: Positive = 1.0
    """Entropy to hold, nats a token; read by learned and rule. Paper: not used."""

    learning_rate: Positive = 0.01
    """Adam's learning rate on log α; read by learned. Paper: not used."""

    max_coefficient: Positive | None = None
    """Upper bound on α; read by learned and rule; null: none. Paper: not used."""

    def __post_init__(self) -> None:
        require(
            self.mode == "fixed" or self.coefficient > 0,
            f"{_WHERE}.coefficient is 0, from which mode {self.mode} cannot move; set it above 0, or mode to fixed",
        )


class EntropyCoefficient(Protocol):
    """What the trainer asks of a coefficient."""

    @property
    def value(self) -> float:
        """α, to pass to the loss."""

    def update(self, measured_entropy: float) -> None:
        """Take note of the last mini-batch's mean entropy, nats a token."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to keep."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""


def make_entropy_coefficient(config: EntropyConfig) -> EntropyCoefficient:
    """The coefficient that the config asks for."""
    kinds: dict[str, Callable[[EntropyConfig], EntropyCoefficient]]
    kinds = {"fixed": FixedCoefficient, "learned": LearnedCoefficient, "rule": RuleCoefficient}
    return kinds[config.mode](config)


class FixedCoefficient:
    """α as configured, whatever the entropy does."""

    def __init__(self, config: EntropyConfig) -> None:
        self.value = config.coefficient

    def update(self, measured_entropy: float) -> None:
        """Nothing changes."""

    def state_dict(self) -> dict[str, Any]:
        """Empty: there is no state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to load."""


class LearnedCoefficient:
    """log α with its own Adam."""

    def __init__(self, config: EntropyConfig) -> None:
        self._config = config
        self._log_alpha = torch.nn.Parameter(torch.tensor(math.log(config.coefficient), dtype=torch.float64))
        self._adam = torch.optim.Adam([self._log_alpha], lr=config.learning_rate)

    @property
    def value(self) -> float:
        """α, to pass to the loss."""
        return _bounded(self._log_alpha.exp().item(), self._config)

    def update(self, measured_entropy: float) -> None:
        """One step of Adam on α · (H - H_target)."""
        if not _usable(measured_entropy):
            return
        self._adam.zero_grad()
        (self._log_alpha.exp() * (measured_entropy - self._config.target)).backward()
        self._adam.step()

    def state_dict(self) -> dict[str, Any]:
        """log α, and Adam's steps and moments once there are any; plain numbers, which JSON keeps to the last digit."""
        adam = self._adam.state.get(self._log_alpha, {})
        return {"log_alpha": self._log_alpha.item(), "adam": {name: value.item() for name, value in adam.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        with torch.no_grad():
            self._log_alpha.fill_(state["log_alpha"])
        types = {"step": torch.float32}
        self._adam.state[self._log_alpha] = {
            name: torch.tensor(value, dtype=types.get(name, torch.float64)) for name, value in state["adam"].items()
        }


class RuleCoefficient:
    """α_0 · H_target / H, with the last measured H; α_0 before the first."""

    def __init__(self, config: EntropyConfig) -> None:
        self._config = config
        self._entropy = config.target

    @property
    def value(self) -> float:
        """α, to pass to the loss."""
        return _bounded(self._config.coefficient * self._config.target / self._entropy, self._config)

    def update(self, measured_entropy: float) -> None:
        """Take note of H."""
        if _usable(measured_entropy):
            self._entropy = max(measured_entropy, _SMALLEST_ENTROPY)

    def state_dict(self) -> dict[str, Any]:
        """The last measured entropy."""
        return {"entropy": self._entropy}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._entropy = state["entropy"]


def _bounded(value: float, config: EntropyConfig) -> float:
    return value if config.max_coefficient is None else min(value, config.max_coefficient)


def _usable(entropy: float) -> bool:
    if not math.isfinite(entropy):
        logger.warning("measured entropy is %s; the entropy coefficient stays as it is", entropy)
    return math.isfinite(entropy)
