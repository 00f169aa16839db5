"""Policy shaping: what the objective makes of an importance ratio.

With r the ratio, x = log r, and the parameters γ, w and a (equation 7 of the paper is the last row):

    identity     r             gradient weight on ∇log π: r
    log          w·log r                                  w
    p_plus_log   r + w·log r                              r + w
    sqrt         √r                                       √r / 2
    pow          r^a                                      a·r^a
    p_div_p      r / (r + γ)                              γ·r / (r + γ)²

The gradient weight is ∂f/∂x. ``p_div_p`` peaks at r = γ: tokens to which the policy gives little probability keep a
learning signal that plain r loses. It is computed as the sigmoid of x - log γ, which is the same number.

Off policy r is π_θ / π_φ, and π_θ itself where the demonstration's own probability π_φ is taken as 1. On policy r is
π_θ / π_old, but for ``p_div_p``, which there is f(π_θ) / f(π_old), as in the released code.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Shaping = Literal["identity", "log", "p_plus_log", "sqrt", "pow", "p_div_p"]


def shape(log_ratio: Tensor, shaping: Shaping, *, gamma: float, weight: float, exponent: float) -> Tensor:
    """Shaped importance ratio f(r), a function of log r.

    Args:
        log_ratio: log r, any shape, in nats.
        shaping: which f.
        gamma: γ of ``p_div_p``, above 0.
        weight: w of ``log`` and ``p_plus_log``.
        exponent: a of ``pow``.

    Returns:
        f(r), of the same shape.
    """
    match shaping:
        case "identity":
            return log_ratio.exp()
        case "log":
            return weight * log_ratio
        case "p_plus_log":
            return log_ratio.exp() + weight * log_ratio
        case "sqrt":
            return (0.5 * log_ratio).exp()
        case "pow":
            return (exponent * log_ratio).exp()
        case "p_div_p":
            return torch.sigmoid(log_ratio - math.log(gamma))
    raise AssertionError(f"no such shaping: {shaping}")


def shape_on_policy(log_ratio: Tensor, old_log_prob: Tensor, shaping: Shaping, *, gamma: float, weight: float, exponent: float) -> Tensor:
    """Shaped ratio of an on-policy token, as in the released code.

    Args:
        log_ratio: log π_θ - log π_old, any shape, in nats.
        old_log_prob: log π_old, of the same shape; only ``p_div_p`` reads it.
        shaping: which f.
        gamma: γ of ``p_div_p``, above 0.
        weight: w of ``log`` and ``p_plus_log``.
        exponent: a of ``pow``.

    Returns:
        f(π_θ / π_old), and f(π_θ) / f(π_old) for ``p_div_p``: 1 (0 for ``log``) where the two policies agree.
    """
    if shaping != "p_div_p":
        return shape(log_ratio, shaping, gamma=gamma, weight=weight, exponent=exponent)
    old = old_log_prob - math.log(gamma)
    return torch.sigmoid(log_ratio + old) / torch.sigmoid(old)
