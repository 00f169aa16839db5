"""What the loss is made of, token by token, read off the graph of the very loss that is trained: no second formula.

Shapes: B rows (responses), T response tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from luffy.objective.aggregation import Aggregator


@dataclass(frozen=True)
class TokenValues:
    """Detached values of each token, [B, T] float, 0 where a token does not count.

    Loss and gradient weight are in units of a token of the policy term, whatever divides its sum: of a plain on-policy token they are
    -A·ρ and A·ρ, of a shaped off-policy one -A·f(π) and A·f'(π)·π.

    Attributes:
        ratio: π over what the objective divides it by (π_old on policy, π_φ off policy), before shaping and clip.
        loss: the token's part of the loss: all its terms, with their coefficients.
        gradient_weight: the factor on ∇log π in the step down the loss, without what reaches π through the entropy.
    """

    ratio: Tensor
    loss: Tensor
    gradient_weight: Tensor


def token_values(batch: Aggregator, loss: Tensor, log_prob: Tensor, log_ratio: Tensor, terms: Sequence[Tensor]) -> TokenValues:
    """The token values of a loss, whose graph stays for its ``backward``.

    Args:
        batch: its aggregator.
        loss: scalar, with its graph.
        log_prob: [B, T], of which the loss was computed.
        log_ratio: [B, T], logarithms of the ratios.
        terms: [B, T] each, what was aggregated to the loss; every term is linear in the loss, so that its gradient is its factor.
    """
    learnt = [term for term in terms if term.requires_grad]
    gradient, *factors = torch.autograd.grad(loss, [log_prob, *learnt], retain_graph=True, allow_unused=True)
    parts = [factor * term.detach() for factor, term in zip(factors, learnt, strict=True) if factor is not None]
    ones = torch.ones_like(log_prob, requires_grad=True)
    (unit,) = torch.autograd.grad(batch.aggregate(ones), ones)
    zero = torch.zeros_like(unit)
    return TokenValues(
        ratio=batch.clean(log_ratio.detach().exp()),
        loss=batch.clean(sum(parts, zero) / unit),
        gradient_weight=batch.clean((zero if gradient is None else -gradient) / unit),
    )
