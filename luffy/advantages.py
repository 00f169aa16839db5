"""Group advantages: how much better a response is than its group.

    A_i = r_i - mean(r over the baseline rows of i's group)             (Dr. GRPO; the paper's experiments and the script)
    A_i = (r_i - mean) / (std + 1e-6)                                   (GRPO; the paper's equation)

The baseline rows are the whole group, demonstrations included, or the on-policy rows alone (the released code's
``grpo_split``), so that the demonstrations' rewards do not move the baseline; it applies to all rows either way.

The standard deviation is the sample's (n - 1 in the denominator, like ``torch.std`` and veRL's GRPO), and a zero one
counts as 1. A group with fewer than two baseline rows has no baseline: mean 0 and std 1, so A_i = r_i. For one row this
is what veRL and the released code do; for none (every row a demonstration, baseline "on_policy"), where the released
code crashes, it is this project's choice.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from luffy.errors import InputError
from luffy.groups import group_index, group_sum
from luffy.settings import settings

Baseline = Literal["group", "on_policy"]

_EPSILON = 1e-6  # veRL's, added to the standard deviation


@settings("luffy.advantage")
class AdvantageConfig:
    """How rewards become advantages."""

    baseline: Baseline = "group"
    """Rows whose mean reward is subtracted: "group" (paper and script: all rows, demonstrations included) or
    "on_policy" (the released code's grpo_split, for RL with SFT loss)."""

    normalize_std: bool = False
    """Divide by the group's standard deviation. Paper's equation: true; its experiments and the script: false."""

    zero_truncated: bool = False
    """Give responses that were cut at the length limit the advantage 0. Paper and script: false."""


def group_advantages(
    rewards: Tensor,
    group_ids: Tensor | np.ndarray | Sequence[Hashable],
    off_policy: Tensor,
    baseline: Baseline = "group",
    normalize_std: bool = False,
    included: Tensor | None = None,
) -> Tensor:
    """Advantage of each response within its group.

    Args:
        rewards: [B] float, one reward a response.
        group_ids: [B] integer tensor or array of hashables, equal for the responses to one prompt.
        off_policy: [B] bool, true for demonstrations.
        baseline: rows that make the mean and the standard deviation: "group" or "on_policy".
        normalize_std: divide by the standard deviation.
        included: [B] bool or None (all); other rows get advantage 0 and enter no mean.

    Returns:
        [B], dtype of the rewards.

    Raises:
        InputError: an unknown baseline, or arguments of different lengths.
    """
    if baseline not in ("group", "on_policy"):
        raise InputError(f"baseline is {baseline!r}; it must be 'group' or 'on_policy'")
    index = group_index(group_ids, rewards)
    included = torch.ones_like(off_policy, dtype=torch.bool) if included is None else included.bool()
    if off_policy.shape != rewards.shape or included.shape != rewards.shape:
        raise InputError(f"off_policy and included must have the shape of rewards, {tuple(rewards.shape)}")
    counted = included & ~off_policy.bool() if baseline == "on_policy" else included
    scores = rewards.double()
    number, mean = _count_and_mean(scores, counted, index)
    advantages = scores - mean
    if normalize_std:
        squares = group_sum(torch.where(counted, advantages.square(), 0.0), index)
        std = (squares / (number - 1).clamp(min=1)).sqrt()
        has_spread = (number > 1) & (std > 0)
        advantages = advantages / torch.where(has_spread, std + _EPSILON, 1.0)
    return torch.where(included, advantages, 0.0).to(rewards.dtype)


def zero_truncated(advantages: Tensor, truncated: Tensor) -> Tensor:
    """Take the advantage away from responses that were cut at the length limit before their end-of-sequence token.

    Args:
        advantages: [B] float.
        truncated: [B] bool.

    Returns:
        [B]: 0 on truncated rows, unchanged elsewhere. Source: an option of the released code, off in its script.
    """
    return torch.where(truncated.bool(), torch.zeros_like(advantages), advantages)


def _count_and_mean(scores: Tensor, counted: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Number and mean of the counted rows of each row's group; the mean is 0 where there are fewer than two."""
    number = group_sum(counted.to(scores.dtype), index)
    total = group_sum(torch.where(counted, scores, 0.0), index)
    return number, torch.where(number > 1, total / number.clamp(min=1), 0.0)
