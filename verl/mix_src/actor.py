"""The actor's loss: unpacks a micro-batch of veRL, calls ``luffy.objective``, packs loss and metrics for veRL."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.utils.metric import AggregationType, Metric
from verl.workers.utils.padding import no_padding_2_padding

from luffy.objective import BatchTotals, ObjectiveConfig, mixed_policy_loss
from verl.mix_src.rollout import BEHAVIOUR_PROB, OFF_POLICY_MASK

ENTROPY_COEFFICIENT = "entropy_coefficient"
REQUIRED = ("response_mask", "old_log_probs", "advantages", OFF_POLICY_MASK, BEHAVIOUR_PROB)
OPTIONAL = ("ref_log_prob", "rollout_is_weights")


def mix_ppo_loss(
    config: ObjectiveConfig, model_output: dict[str, torch.Tensor], data: TensorDict, dp_group: Any = None
) -> tuple[torch.Tensor, dict[str, Metric]]:
    """LUFFY's loss of one micro-batch, in the signature of veRL's ``ppo_loss``.

    The denominators are those of the whole mini-batch over all ranks, and FSDP averages gradients over the ranks; so
    the sum over micro-batches is the loss of the mini-batch, however it was split.

    Args:
        config: the objective.
        model_output: ``log_probs`` and, where the loss needs it, ``entropy``, as veRL's engine returns them.
        data: the micro-batch with veRL's fields and the two of :mod:`verl.mix_src.rollout`.
        dp_group: unused; part of the signature.

    Returns:
        The loss times the number of data-parallel ranks, and metrics that add up over micro-batches.
    """
    dp_size = data["dp_size"]
    totals = BatchTotals(tokens=data["batch_num_tokens"], sequences=data["global_batch_size"])
    entropy_coefficient = tu.get_non_tensor_data(data, ENTROPY_COEFFICIENT, default=None)
    log_prob = no_padding_2_padding(model_output["log_probs"], data)
    entropy = model_output.get("entropy")
    width = log_prob.shape[1]
    fields = {name: _padded(data[name], width) for name in REQUIRED}
    fields |= {name: _padded(data[name], width) for name in OPTIONAL if name in data}
    response_mask = fields["response_mask"].bool()
    off_policy_mask = fields[OFF_POLICY_MASK].bool() & response_mask
    result = mixed_policy_loss(
        log_prob=log_prob,
        old_log_prob=fields["old_log_probs"],
        advantages=_weighted(fields["advantages"], fields.get("rollout_is_weights"), off_policy_mask),
        response_mask=response_mask,
        off_policy_mask=off_policy_mask,
        behaviour_prob=fields[BEHAVIOUR_PROB],
        entropy=None if entropy is None else no_padding_2_padding(entropy, data),
        ref_log_prob=fields.get("ref_log_prob"),
        entropy_coefficient=entropy_coefficient,
        totals=totals,
        config=config,
    )
    metrics = {name: Metric(value=value * dp_size, aggregation=AggregationType.SUM) for name, value in result.metrics.items()}
    return result.loss * dp_size, metrics


def _padded(column: torch.Tensor, width: int) -> torch.Tensor:
    """[B, T] from a column of ragged rows; veRL's padding rows may hold more tokens than the batch's longest response."""
    padded = column.to_padded_tensor(0) if column.is_nested else column
    missing = width - padded.shape[1]
    return torch.nn.functional.pad(padded, (0, missing)) if missing > 0 else padded[:, :width]


def _weighted(advantages: torch.Tensor, rollout_is_weights: torch.Tensor | None, off_policy_mask: torch.Tensor) -> torch.Tensor:
    """veRL's rollout correction scales on-policy losses by positive weights, which is scaling their advantages."""
    if rollout_is_weights is None:
        return advantages
    return torch.where(off_policy_mask, advantages, advantages * rollout_is_weights)
