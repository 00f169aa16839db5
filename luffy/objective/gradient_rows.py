"""Which rows a gradient comes from: the others need neither forward nor backward pass.

Shapes: B rows, T response tokens. A row whose advantage is 0 gives nothing to the policy stream, whatever its ratios are; another stream
may still read it. Divisors are numbers of the whole mini-batch (:class:`luffy.objective.BatchTotals`), so the sum over the rows that are
left is the same sum.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from luffy.objective.aggregation import EVERYTHING, Selection
from luffy.objective.config import ObjectiveConfig
from luffy.objective.parts import Advantage, Group


def rows_with_gradient(
    *,
    advantages: Tensor,
    response_mask: Tensor,
    off_policy_mask: Tensor,
    row_correct: Tensor | None = None,
    entropy_coefficient: float = 0.0,
    step: int = 0,
    regularized: bool = True,
    config: ObjectiveConfig,
) -> Tensor:
    """Rows that may have a gradient; of every other it is exactly 0.

    Args:
        advantages, response_mask, off_policy_mask, row_correct, entropy_coefficient, step, config: as of
            :func:`luffy.objective.mixed_policy_loss`.
        regularized: whether a gradient of the entropy bonus or of a KL divergence counts; else that of the policy, sft and distill
            streams alone.

    Returns:
        [B] bool.
    """
    mask = response_mask.bool()
    off_policy = mask & off_policy_mask.bool()
    moved = torch.zeros_like(mask)
    if config.coefficient("policy", step):
        moved = mask & ~off_policy & _moves(config.on_policy_advantage, config.on_policy_weight, advantages)
        if config.policy_tokens == "all":
            moved = moved | (off_policy & _moves(config.advantage, config.off_policy_weight, advantages))
    for selection in _other_streams(config, step, entropy_coefficient if regularized else 0.0, regularized):
        moved = moved | selection.mask(mask, off_policy, row_correct)
    return moved.any(dim=-1)


def _moves(part: Advantage, weight: float, advantages: Tensor) -> Tensor:
    """[B, T] or [] bool: whether an advantage of that kind may be other than 0."""
    if not weight:
        return torch.tensor(False, device=advantages.device)
    return advantages != 0 if isinstance(part, Group) else torch.tensor(True, device=advantages.device)


def _other_streams(config: ObjectiveConfig, step: int, entropy_coefficient: float, regularized: bool) -> Iterator[Selection]:
    """Tokens of each stream beside the policy's that has a coefficient."""
    if config.coefficient("sft", step):
        yield Selection("off_policy", config.sft_rows)
    if config.coefficient("distill", step):
        yield Selection(config.distill_tokens, config.distill_rows)
    if entropy_coefficient:
        yield Selection(config.entropy_tokens)
    if regularized and config.coefficient("kl", step):
        yield Selection(config.kl_tokens)
    if regularized and config.kl_to_old_coefficient:
        yield EVERYTHING
