"""What a method puts in the formula of a token's loss: denominators of its ratio, advantages in place of the group's, token weights.

Shapes: B rows (responses), T response tokens. With p = π the current policy's probability of a token, π_old that of the policy which
sampled the batch, π_φ the recorded one (1 where none is), h the mean entropy of the token's row in nats, and sg = without gradient:

    denominator b of the ratio π/b
        old          π_old                            PPO; a prefix, whose π_old is recomputed at the step's start
        behaviour    π_φ                              LUFFY (1), ExGRPO (recorded at sampling)
        one          1, whatever was recorded
        mixture      (3·π_old + floor) / 4            RL-PLUS: (π_old + ½(π_old + floor)) / 2; floor 1 in its code, 1/vocabulary in its paper
        bounded      max(sg π, bound)                 TRAPO, bound 0.1

    advantage
        group        the one that is given
        constant     value
        verdict      right · e^(rate·h) on right rows, wrong on wrong ones          SRFT's rollouts
        teacher      reward · (the given one) + teacher · (log π_T - log π_old)     OPD, reward 0 or 1

    token weight, without gradient; 0 leaves the token out of the sum, not out of the divisor
        one          1
        probability  p                                                              CHORD, "IS"
        uncertainty  p(1 - p)                                                       CHORD-φ
        one_minus_p  (1 - p)^power                                                  RL-PLUS, power ½
        row_entropy  scale · e^(rate·h)                                             SRFT
        importance   min(π/π_old, cap)                                              SDFT, cap 2
        top_entropy  1 on the row's ⌈share · n⌉ tokens of highest entropy of its n  Prefix-RFT, by row (its code: by micro-batch)

A new part is one class here: its name, its parameters as fields, and what it makes of the tokens.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, dataclass_transform

import torch
from torch import Tensor

from luffy.errors import InputError
from luffy.objective.choice import Choice, read_choice, register
from luffy.schedules import ShareOverTime, at
from luffy.settings import NotNegative, Positive

_ROUNDING = 1e-9  # a share of tokens that is a whole number but for rounding is that number

Part = TypeVar("Part")


@dataclass(frozen=True)
class Tokens:
    """The tokens of a batch, as parts see them.

    Attributes:
        log_prob: [B, T] float, log π, without gradient.
        old_log_prob: [B, T] float, log π_old.
        log_behaviour: [B, T] float, log π_φ; or 0.0, where nothing was recorded.
        response_mask: [B, T] bool, true on the tokens that count.
        advantages: [B, T] float, the given ones.
        entropy: [B, T] float, in nats, without gradient; None: not there.
        teacher_log_prob: [B, T] float, log π_T; None: not there.
        row_correct: [B] bool; None: not there.
        step: training step from 0.
    """

    log_prob: Tensor
    old_log_prob: Tensor
    log_behaviour: Tensor | float
    response_mask: Tensor
    advantages: Tensor
    entropy: Tensor | None
    teacher_log_prob: Tensor | None
    row_correct: Tensor | None
    step: int

    def need(self, name: str, for_what: str) -> Tensor:
        """An optional tensor.

        Raises:
            InputError: it is not there.
        """
        tensor = getattr(self, name)
        if tensor is None:
            raise InputError(f"{for_what} needs {name}, which is None; pass it")
        return tensor

    def row_entropy(self, for_what: str) -> Tensor:
        """[B, 1]: h, the mean entropy of each row's tokens that count, in nats; 0 where there is none."""
        entropy = torch.where(self.response_mask, self.need("entropy", for_what), 0.0)
        return (entropy.sum(-1) / self.response_mask.sum(-1).clamp(min=1)).unsqueeze(-1)


class Denominator(Choice):
    """What π is divided by."""

    @abstractmethod
    def __call__(self, tokens: Tokens) -> Tensor | float:
        """log b, [B, T] or one number for all, in nats, without gradient."""

    @classmethod
    def kinds(cls) -> dict[str, Any]:
        """All denominators by name."""
        return DENOMINATORS

    @classmethod
    def read(cls, node: Any, where: str) -> Denominator:
        """The denominator of a config node; see :func:`luffy.objective.choice.read_choice`."""
        return read_choice(DENOMINATORS, "denominator", node, where)


class Advantage(Choice):
    """What takes the place of the group's advantage."""

    @abstractmethod
    def __call__(self, tokens: Tokens) -> Tensor:
        """[B, T], without gradient."""

    @classmethod
    def kinds(cls) -> dict[str, Any]:
        """All advantages by name."""
        return ADVANTAGES

    @classmethod
    def read(cls, node: Any, where: str) -> Advantage:
        """The advantage of a config node; see :func:`luffy.objective.choice.read_choice`."""
        return read_choice(ADVANTAGES, "advantage", node, where)


class TokenWeight(Choice):
    """A factor on the losses of tokens."""

    @abstractmethod
    def __call__(self, tokens: Tokens, selected: Tensor) -> Tensor:
        """The factors.

        Args:
            tokens: the batch.
            selected: [B, T] bool, the tokens that are weighed.

        Returns:
            [B, T] float without gradient; what it holds elsewhere is not read.
        """

    @classmethod
    def kinds(cls) -> dict[str, Any]:
        """All token weights by name."""
        return TOKEN_WEIGHTS

    @classmethod
    def read(cls, node: Any, where: str) -> TokenWeight:
        """The token weight of a config node; see :func:`luffy.objective.choice.read_choice`."""
        return read_choice(TOKEN_WEIGHTS, "token weight", node, where)


DENOMINATORS: dict[str, type[Denominator]] = {}
ADVANTAGES: dict[str, type[Advantage]] = {}
TOKEN_WEIGHTS: dict[str, type[TokenWeight]] = {}


@dataclass_transform(kw_only_default=True, frozen_default=True)
def denominator(name: str) -> Callable[[type[Part]], type[Part]]:
    """Register a denominator under its name; its fields are settings."""
    return register(DENOMINATORS, name, "luffy.objective.denominator")


@dataclass_transform(kw_only_default=True, frozen_default=True)
def advantage(name: str) -> Callable[[type[Part]], type[Part]]:
    """Register an advantage under its name; its fields are settings."""
    return register(ADVANTAGES, name, "luffy.objective.advantage")


@dataclass_transform(kw_only_default=True, frozen_default=True)
def token_weight(name: str) -> Callable[[type[Part]], type[Part]]:
    """Register a token weight under its name; its fields are settings."""
    return register(TOKEN_WEIGHTS, name, "luffy.objective.token_weight")


@denominator("old")
class Old(Denominator):
    """The policy at the start of the step."""

    reads_old = True

    def __call__(self, tokens: Tokens) -> Tensor | float:
        return tokens.old_log_prob


@denominator("behaviour")
class Behaviour(Denominator):
    """The recorded probability of whoever wrote the token, 1 where there is none."""

    def __call__(self, tokens: Tokens) -> Tensor | float:
        return tokens.log_behaviour


@denominator("one")
class One(Denominator):
    """1: the ratio is the probability itself."""

    def __call__(self, tokens: Tokens) -> Tensor | float:
        return 0.0


@denominator("mixture")
class Mixture(Denominator):
    """Half the old policy, half an estimate of the unknown writer, which is itself half the old policy and half ``floor``."""

    reads_old = True

    floor: Positive = 1.0
    """Probability of the unknown half. RL-PLUS's code: 1; its paper: 1 / size of the vocabulary."""

    def __call__(self, tokens: Tokens) -> Tensor | float:
        return ((3 * tokens.old_log_prob.exp() + self.floor) / 4).log()


@denominator("bounded")
class Bounded(Denominator):
    """The policy's own probability, from below by a bound: the gradient weight is min(1, π / bound)."""

    bound: Positive = 0.1
    """Probability below which a token counts less. TRAPO: 0.1."""

    def __call__(self, tokens: Tokens) -> Tensor | float:
        return tokens.log_prob.clamp(min=math.log(self.bound))


@advantage("group")
class Group(Advantage):
    """The one that is given: of the row within its group."""

    def __call__(self, tokens: Tokens) -> Tensor:
        return tokens.advantages


@advantage("constant")
class Constant(Advantage):
    """The same for every token."""

    value: float = 1.0
    """The advantage. TRAPO's prefixes: 1."""

    def __call__(self, tokens: Tokens) -> Tensor:
        return torch.full_like(tokens.advantages, self.value)


@advantage("verdict")
class Verdict(Advantage):
    """By the row's own verdict, without a baseline."""

    right: float = 1.0
    """Advantage of right rows, before their entropy counts. SRFT: 0.1."""

    wrong: float = -1.0
    """Advantage of wrong rows. SRFT: -1."""

    rate: float = 0.0
    """Right rows count e^(rate · h), h their mean entropy in nats. SRFT: 1."""

    def __call__(self, tokens: Tokens) -> Tensor:
        right = tokens.need("row_correct", "advantage verdict").bool().unsqueeze(-1)
        value = torch.full_like(tokens.advantages, self.right)
        if self.rate:
            value = value * (self.rate * tokens.row_entropy("advantage verdict")).exp()
        return torch.where(right, value, self.wrong)


@advantage("teacher")
class Teacher(Advantage):
    """How much likelier the teacher finds the token than the policy that sampled it, beside the reward or in its place."""

    reads_old = True

    reward: NotNegative = 0.0
    """Factor on the given advantage. OPD: 0, or 1 with rewards."""

    teacher: NotNegative = 1.0
    """Factor on log π_T - log π_old. OPD: 1."""

    def __call__(self, tokens: Tokens) -> Tensor:
        gain = self.teacher * (tokens.need("teacher_log_prob", "advantage teacher") - tokens.old_log_prob)
        return gain + self.reward * tokens.advantages if self.reward else gain


@token_weight("one")
class Plain(TokenWeight):
    """Every token counts once."""

    def __call__(self, tokens: Tokens, selected: Tensor) -> Tensor:
        return torch.ones_like(tokens.log_prob)


@token_weight("probability")
class Probability(TokenWeight):
    """Tokens count by their probability."""

    def __call__(self, tokens: Tokens, selected: Tensor) -> Tensor:
        return tokens.log_prob.exp()


@token_weight("uncertainty")
class Uncertainty(TokenWeight):
    """Tokens that the policy is undecided about count most: at most ¼, at p = ½."""

    def __call__(self, tokens: Tokens, selected: Tensor) -> Tensor:
        p = tokens.log_prob.exp()
        return p * (1 - p)


@token_weight("one_minus_p")
class OneMinusP(TokenWeight):
    """Tokens that the policy finds unlikely count most."""

    power: Positive = 0.5
    """Power of 1 - p. RL-PLUS: 0.5."""

    def __call__(self, tokens: Tokens, selected: Tensor) -> Tensor:
        return (1 - tokens.log_prob.exp()).clamp(min=0) ** self.power


@token_weight("row_entropy")
class RowEntropy(TokenWeight):
    """Rows count by the mean entropy of their tokens."""

    scale: Positive = 1.0
    """Weight of a row without entropy. SRFT: 0.5."""

    rate: float = 0.0
    """Power of e for each nat. SRFT: -1, so that rows which surprise the policy count less."""

    def __call__(self, tokens: Tokens, selected: Tensor) -> Tensor:
        weight = self.scale * (self.rate * tokens.row_entropy("token weight row_entropy")).exp()
        return weight.expand_as(tokens.log_prob)


@token_weight("importance")
class Importance(TokenWeight):
    """Corrects for the tokens having been sampled by the old policy."""

    reads_old = True

    cap: Positive = 2.0
    """Largest weight. SDFT: 2."""

    def __call__(self, tokens: Tokens, selected: Tensor) -> Tensor:
        return (tokens.log_prob - tokens.old_log_prob).exp().clamp(max=self.cap)


@token_weight("top_entropy")
class TopEntropy(TokenWeight):
    """Only a row's most uncertain tokens count. Ties go to the earlier token."""

    share: ShareOverTime = 0.2
    """Share of the row's tokens, rounded up. Prefix-RFT: 0.2."""

    def __call__(self, tokens: Tokens, selected: Tensor) -> Tensor:
        entropy = torch.where(selected, tokens.need("entropy", "token weight top_entropy"), -torch.inf)
        order = entropy.argsort(dim=-1, descending=True, stable=True)
        rank = torch.empty_like(order).scatter_(-1, order, torch.arange(order.shape[-1], device=order.device).expand_as(order))
        number = (at(self.share, tokens.step) * selected.sum(-1, keepdim=True).double() - _ROUNDING).ceil()
        return (rank < number).to(tokens.log_prob.dtype)
