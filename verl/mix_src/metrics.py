"""Metrics of a step that tell demonstrations from rollouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from verl.mix_src.batch import RolloutBatch
from verl.mix_src.rollout import DEMONSTRATION

BUSY = ("gen", "reward", "old_log_prob", "ref", "values", "update_critic", "update_actor", "update_weights")
VERDICT = "reward_extra_info"  # key of the verifier's facts in a row's extra fields
REASON_PREFIX = "reward/"  # of the indicators among the verifier's facts
NOT_A_STEP = ("save_checkpoint",)


def overhead_share(timing_s: dict[str, float]) -> float:
    """Share of a step outside generation, forward, backward and weight sync (checkpoints aside), in [0, 1]."""
    step = timing_s["step"] - sum(timing_s.get(name, 0.0) for name in NOT_A_STEP)
    return max(0.0, 1.0 - sum(timing_s.get(name, 0.0) for name in BUSY) / step)


def rollout_metrics(rollouts: RolloutBatch, included: torch.Tensor) -> dict[str, float]:
    """Reward, length, probability, entropy and shares of a step's rows.

    Args:
        rollouts: the step.
        included: bool [B], rows that take part in the update.

    Returns:
        ``on_policy/...`` and ``off_policy/...`` means, the latter also by teacher (``off_policy/source/NAME/...``). A
        side without rows has no entry but its share.
    """
    on_policy = rollouts.real & ~rollouts.off_policy
    demonstrations = rollouts.real & rollouts.off_policy
    off_tokens = rollouts.off_policy_mask_BT & rollouts.response_mask_BT
    on_tokens = rollouts.response_mask_BT & ~off_tokens
    metrics = _means("on_policy", rollouts, on_policy, on_tokens)
    metrics |= _means("off_policy", rollouts, demonstrations, rollouts.off_policy_mask_BT)
    tokens = (on_tokens | off_tokens).sum().clamp(min=1)
    metrics["off_policy/token_share"] = (off_tokens.sum() / tokens).item()
    metrics["off_policy/row_share"] = (demonstrations.sum() / rollouts.real.sum().clamp(min=1)).item()
    metrics["off_policy/withheld_share"] = _share(demonstrations & ~included, demonstrations)
    metrics["on_policy/truncated_share"] = _share(on_policy & rollouts.truncated, on_policy)
    metrics |= _verdict_shares(rollouts, on_policy)
    metrics |= _solved_groups(rollouts)
    facts = [extra.get(DEMONSTRATION) for extra in rollouts.extra]
    if ratios := [fact["ratio"] for fact in facts if fact]:
        metrics["off_policy/prefix_ratio"] = sum(ratios) / len(ratios)
    cut = torch.tensor([bool(fact and fact["truncated"]) for fact in facts])
    metrics["off_policy/truncated_share"] = _share(demonstrations & cut, demonstrations)
    names = [fact["source"] if fact else None for fact in facts]
    for name in sorted({name for name in names if name}):
        rows = demonstrations & torch.tensor([other == name for other in names])
        metrics[f"off_policy/source/{name}/row_share"] = _share(rows, demonstrations)
        if rows.any():
            metrics[f"off_policy/source/{name}/reward"] = rollouts.rewards[rows].mean().item()
    return metrics


def validation_shares(data_sources: Sequence[str], indicators: Mapping[str, Sequence[float | None]]) -> dict[str, float]:
    """Share of validation rows for each reason why the verifier gave no reward.

    Args:
        data_sources: source of each row.
        indicators: reason to 0 or 1 for each row; None where the verifier said nothing.

    Returns:
        ``val-aux/SOURCE/REASON/mean``.
    """
    shares = {}
    for source in sorted(set(data_sources)):
        for name, values in indicators.items():
            known = [value for value, of in zip(values, data_sources, strict=True) if of == source and value is not None]
            if known:
                shares[f"val-aux/{source}/{name}/mean"] = sum(known) / len(known)
    return shares


def _means(side: str, rollouts: RolloutBatch, rows: torch.Tensor, tokens_BT: torch.Tensor) -> dict[str, float]:
    tokens_BT = tokens_BT & rows.unsqueeze(-1)
    if not tokens_BT.any():
        return {}
    metrics = {
        f"{side}/reward": rollouts.rewards[rows].mean().item(),
        f"{side}/response_length": tokens_BT[rows].sum(dim=-1).float().mean().item(),
        f"{side}/probability": rollouts.old_log_probs_BT[tokens_BT].exp().mean().item(),
    }
    if rollouts.entropy_BT is not None:
        metrics[f"{side}/entropy"] = rollouts.entropy_BT[tokens_BT].mean().item()
    return metrics


def _verdict_shares(rollouts: RolloutBatch, rows: torch.Tensor) -> dict[str, float]:
    """Share of ``rows`` for each reason why the verifier gave no reward (:mod:`verl.mix_src.reward`)."""
    verdicts = [extra.get(VERDICT, {}) for extra, counts in zip(rollouts.extra, rows.tolist(), strict=True) if counts]
    names = sorted({name for verdict in verdicts for name in verdict if name.startswith(REASON_PREFIX)})
    return {name: sum(float(verdict.get(name, 0.0)) for verdict in verdicts) / len(verdicts) for name in names}


def _solved_groups(rollouts: RolloutBatch) -> dict[str, float]:
    """Number of groups whose rows, demonstrations included, are all right or all wrong, as the released code counts them."""
    _, group = np.unique(rollouts.groups[rollouts.real.numpy()].astype(str), return_inverse=True)
    rewards = rollouts.rewards[rollouts.real].numpy()
    rows, right, wrong = (np.bincount(group, weights=each) for each in (rewards > -np.inf, rewards >= 1, rewards <= 0))
    return {"batch/solve_all": float((right == rows).sum()), "batch/solve_none": float((wrong == rows).sum())}


def _share(part: torch.Tensor, whole: torch.Tensor) -> float:
    return (part.sum() / whole.sum().clamp(min=1)).item()
