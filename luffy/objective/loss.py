"""The objective: on-policy rollouts and off-policy demonstrations in one policy gradient (arXiv 2504.14945).

Shapes: B rows (responses), T response tokens. Probabilities have no unit; entropies and divergences are in nats.

For a token with advantage A, and π the current policy's probability of it,

    on-policy token     loss = -A·ρ          ρ = π / π_old          with the PPO clip if there is one     (equation 2)
    off-policy token    loss = -A·f(π/π_φ)   π_φ = 1 unless known   f(r) = r / (r + γ)                    (equation 7)

so the gradient weight on ∇log π is A·ρ on policy and A·γπ/(π + γ)² off policy (other shapings f: luffy/objective/shaping.py; other
ratios, advantages and token weights w: luffy/objective/parts.py). The loss is a sum of streams s,

    Σ_s c_s(t) · Σ w_s·ℓ_s / N_s        c_s(t): a coefficient, constant or over the training steps t

    policy    every token, or the on-policy ones      the token losses above
    sft       the off-policy tokens                   -log π
    distill   every token, or those of some rows      an estimate of KL(π ‖ π_T), π_T the teacher's probability
    kl        every token, or the on-policy ones      an estimate of KL(π ‖ π_ref); another one of KL(π ‖ π_old)
    entropy   every token, or the on-policy ones      -H, with coefficient α

and N_s is the same for all streams unless a stream has a divisor of its own:

    constant         Σ over all tokens / constant_length
    token_mean       Σ over all tokens / number of tokens of the policy stream
    sequence_mean    Σ over rows of (Σ over its tokens / number of its tokens) / number of rows with tokens
    own_tokens       Σ over the stream's tokens / their number          (of one stream)
    own_rows         Σ over the stream's tokens / number of their rows  (of one stream)

The numbers of tokens and rows are those of the whole mini-batch (:class:`BatchTotals`), so the losses and gradients of
micro-batches and ranks *add up* to the mini-batch's. (The released code averages the entropy in each micro-batch, which
makes the entropy-to-policy ratio depend on how sequences are packed; so do the codes that descend from it with their SFT
terms.) What padding holds, NaN included, does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from luffy import metric_names as names
from luffy.errors import InputError
from luffy.objective.aggregation import EVERYTHING, Aggregator, BatchTotals, Selection
from luffy.objective.config import ObjectiveConfig
from luffy.objective.kl import distill_estimate, kl_estimate
from luffy.objective.parts import Group, Old, Plain, Tokens, TokenWeight
from luffy.objective.token_values import TokenValues, token_values

_LOG_RATIO_BOUND = 20.0  # bounds the ratios at exp(±20), as veRL does


@dataclass(frozen=True)
class MixedPolicyLoss:
    """Result of :func:`mixed_policy_loss`.

    Attributes:
        loss: scalar, to call ``backward`` on.
        metrics: detached scalars by name; contributions to be summed, see :mod:`luffy.metric_names`.
        tokens: ratio, loss and gradient weight of each token; None unless they were asked for.
    """

    loss: Tensor
    metrics: dict[str, Tensor]
    tokens: TokenValues | None = None


def mixed_policy_loss(
    *,
    log_prob: Tensor,
    old_log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    off_policy_mask: Tensor,
    behaviour_prob: Tensor | None = None,
    entropy: Tensor | None = None,
    ref_log_prob: Tensor | None = None,
    teacher_log_prob: Tensor | None = None,
    row_correct: Tensor | None = None,
    entropy_coefficient: float = 0.0,
    step: int = 0,
    totals: BatchTotals | None = None,
    keep_tokens: bool = False,
    config: ObjectiveConfig,
) -> MixedPolicyLoss:
    """Loss of a mini-batch, or a micro-batch's additive part of it.

    Args:
        log_prob: [B, T] float, log π of each response token under the current policy, with gradient.
        old_log_prob: [B, T] float, the same under the policy that sampled the batch.
        advantages: [B, T] float.
        response_mask: [B, T] bool, true on the tokens that count.
        off_policy_mask: [B, T] bool, true on the tokens that a demonstration gave.
        behaviour_prob: [B, T] float in (0, 1], π_φ of the off-policy tokens as recorded, 1 where unknown; None: 1 everywhere.
        entropy: [B, T] float, entropy of the current policy at each token, with gradient; None where nothing reads it.
        ref_log_prob: [B, T] float, log probability under the reference policy; None without KL to it.
        teacher_log_prob: [B, T] float, log probability under the teacher; None without a part that reads it.
        row_correct: [B] bool, true where the verifier found the row right; None without a part that reads it.
        entropy_coefficient: α, the factor on the entropy bonus.
        step: training step from 0, for what changes over training.
        totals: numbers of the whole mini-batch; None: this batch is the whole.
        keep_tokens: whether the result has the values of each token.
        config: the terms and their numbers.

    Returns:
        The loss and its metrics.

    Raises:
        InputError: a tensor of another shape, or a coefficient or a part whose tensor is missing.
    """
    _check_present(config, step, entropy_coefficient, entropy=entropy, ref_log_prob=ref_log_prob, teacher_log_prob=teacher_log_prob)
    _check_shapes(log_prob, row_correct, old_log_prob=old_log_prob, advantages=advantages, response_mask=response_mask,
                  off_policy_mask=off_policy_mask, behaviour_prob=behaviour_prob, entropy=entropy,
                  ref_log_prob=ref_log_prob, teacher_log_prob=teacher_log_prob)  # fmt: skip
    mask = response_mask.bool()
    off_policy = mask & off_policy_mask.bool()
    batch = Aggregator(
        mask, off_policy, row_correct, totals or BatchTotals.of(mask, off_policy, row_correct), config.aggregation,
        config.constant_length, Selection(config.policy_tokens), [] if keep_tokens else None,
    )  # fmt: skip
    tokens = Tokens(
        log_prob=log_prob.detach(), old_log_prob=old_log_prob, log_behaviour=0.0 if behaviour_prob is None else behaviour_prob.log(),
        response_mask=mask, advantages=advantages, entropy=None if entropy is None else entropy.detach(),
        teacher_log_prob=teacher_log_prob, row_correct=row_correct, step=step,
    )  # fmt: skip
    loss, log_ratio, metrics = _policy_term(batch, log_prob, tokens, config)
    loss = config.coefficient("policy", step) * loss
    if entropy is not None:
        metrics |= _entropy_term(batch, batch.clean(entropy), config)
        loss = loss - entropy_coefficient * metrics[names.ENTROPY_LOSS]
    for name, coefficient, value in _other_streams(batch, log_prob, tokens, ref_log_prob, config):
        metrics[name] = value
        loss = loss + coefficient * value
    metrics[names.LOSS] = loss
    kept = None if batch.terms is None else token_values(batch, loss, log_prob, log_ratio, list(batch.terms))
    return MixedPolicyLoss(loss=loss, metrics={name: value.detach() for name, value in metrics.items()}, tokens=kept)


def _entropy_term(batch: Aggregator, entropy: Tensor, config: ObjectiveConfig) -> dict[str, Tensor]:
    """The mean entropy of all tokens, and the term of those that the bonus is for."""
    chosen = Selection(config.entropy_tokens)
    bonus = entropy if chosen == EVERYTHING else torch.where(batch.mask(chosen), entropy, 0.0)
    return {names.ENTROPY: batch.share(entropy), names.ENTROPY_LOSS: batch.aggregate(bonus, config.entropy_divisor, chosen)}


def _other_streams(
    batch: Aggregator, log_prob: Tensor, tokens: Tokens, ref_log_prob: Tensor | None, config: ObjectiveConfig
) -> Iterator[tuple[str, float, Tensor]]:
    """Name, coefficient and value of the streams that the script leaves out; those with coefficient 0 are skipped."""
    if (coefficient := config.coefficient("kl", tokens.step)) and ref_log_prob is not None:
        chosen = Selection(config.kl_tokens)
        kl = kl_estimate(torch.where(batch.mask(chosen), log_prob - ref_log_prob, 0.0), config.kl_estimator)
        yield names.KL_LOSS, coefficient, batch.aggregate(kl, config.kl_divisor, chosen)
    if config.kl_to_old_coefficient:
        kl = kl_estimate(batch.clean(log_prob - tokens.old_log_prob), config.kl_estimator)
        yield names.KL_TO_OLD_LOSS, config.kl_to_old_coefficient, batch.aggregate(kl)
    if coefficient := config.coefficient("sft", tokens.step):
        chosen = Selection("off_policy", config.sft_rows)
        mask = batch.mask(chosen)
        losses = _weighted(-torch.where(mask, log_prob, 0.0), config.sft_weight, tokens, mask)
        yield names.SFT_LOSS, coefficient, batch.aggregate(losses, config.sft_divisor, chosen)
    if (coefficient := config.coefficient("distill", tokens.step)) and tokens.teacher_log_prob is not None:
        chosen = Selection(config.distill_tokens, config.distill_rows)
        mask = batch.mask(chosen)
        ours, theirs = (torch.where(mask, each, 0.0) for each in (log_prob, tokens.teacher_log_prob))
        losses = _weighted(distill_estimate(ours, theirs, config.distill_estimator), config.distill_weight, tokens, mask)
        yield names.DISTILL_LOSS, coefficient, batch.aggregate(losses, config.distill_divisor, chosen)


def _weighted(losses: Tensor, weight: TokenWeight, tokens: Tokens, mask: Tensor) -> Tensor:
    """Losses times their token weights on the tokens of ``mask``, as they are elsewhere."""
    if isinstance(weight, Plain):
        return losses
    return torch.where(mask, losses * torch.where(mask, weight(tokens, mask), 0.0), losses)


def _policy_term(batch: Aggregator, log_prob: Tensor, tokens: Tokens, config: ObjectiveConfig) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The policy gradient: equation 2 on the on-policy tokens, equation 7 on the off-policy ones, or what the config puts there.

    Returns its loss, the tokens' log-ratios, and metrics.
    """
    off_policy, on_policy = batch.off_policy, batch.response_mask & ~batch.off_policy
    divided_by = torch.where(off_policy, config.denominator(tokens), config.on_policy_denominator(tokens))
    log_ratio = batch.clean(log_prob - divided_by)
    cost = -batch.clean(_advantages(off_policy, tokens, config))

    on_losses, on_metrics = _on_policy_losses(batch, log_ratio, tokens.old_log_prob, cost, config)
    if not isinstance(config.on_policy_denominator, Old):
        drift = torch.where(on_policy, tokens.old_log_prob - tokens.log_prob, 0.0)
        on_metrics[names.PPO_KL] = batch.share(drift)
    off_losses, off_metrics = _off_policy_losses(batch, log_ratio, cost, config)
    on_losses = _weighted(on_losses, config.on_policy_token_weight, tokens, on_policy)
    off_losses = _weighted(off_losses, config.token_weight, tokens, off_policy)
    losses = torch.where(off_policy, off_losses, on_losses)
    metrics = names.contributions(on_metrics | off_metrics)
    if config.max_probability is not None:
        dropped = batch.response_mask & (log_prob.detach() > math.log(config.max_probability))
        losses = torch.where(dropped, 0.0, losses)
        metrics[names.DROPPED_FRACTION] = batch.share(dropped)
    if config.policy_tokens == "on_policy":
        losses = torch.where(off_policy, 0.0, losses)
    loss = batch.aggregate(losses)
    off_loss = batch.aggregate(losses.detach() * off_policy.to(losses.dtype))
    off_fraction = batch.share(off_policy)
    metrics |= {
        names.POLICY_LOSS: loss,
        names.ON_POLICY_LOSS: loss - off_loss,
        names.OFF_POLICY_LOSS: off_loss,
        names.ON_POLICY_FRACTION: batch.share(batch.response_mask) - off_fraction,
        names.OFF_POLICY_FRACTION: off_fraction,
    }
    return loss, log_ratio, metrics


def _advantages(off_policy: Tensor, tokens: Tokens, config: ObjectiveConfig) -> Tensor:
    """[B, T]: the given advantages, or what stands in their place, times the weight of their source."""
    advantages = tokens.advantages
    if not (isinstance(config.advantage, Group) and isinstance(config.on_policy_advantage, Group)):
        advantages = torch.where(off_policy, config.advantage(tokens), config.on_policy_advantage(tokens))
    if config.on_policy_weight != 1 or config.off_policy_weight != 1:
        advantages = advantages * torch.where(off_policy, config.off_policy_weight, config.on_policy_weight)
    return advantages


def _on_policy_losses(
    batch: Aggregator, log_ratio: Tensor, old_log_prob: Tensor, cost: Tensor, config: ObjectiveConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Token losses -A·ρ, with the PPO clip and the dual clip where the config has them; ``cost`` is -A."""
    on_policy = ~batch.off_policy
    log_ratio = log_ratio.clamp(-_LOG_RATIO_BOUND, _LOG_RATIO_BOUND)
    if config.on_policy_shaping.reads_old_log_prob:
        old_log_prob = torch.where(batch.response_mask & on_policy, old_log_prob, 0.0)
    ratio = config.on_policy_shaping.on_policy(log_ratio, old_log_prob)
    losses, clipped, bounded = _clipped(cost, ratio, config)
    metrics = {names.PPO_KL: batch.share(-log_ratio.detach().masked_fill(batch.off_policy, 0.0))}
    if clipped is not None:
        metrics[names.CLIPFRAC] = batch.share(clipped & on_policy)
    if bounded is not None:
        metrics[names.CLIPFRAC_LOWER] = batch.share(bounded & on_policy)
    return losses, metrics


def _clipped(cost: Tensor, ratio: Tensor, config: ObjectiveConfig) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Token losses under the PPO clip and the dual clip; where the first raised them, and where the second lowered them (None: no clip)."""
    losses = cost * ratio
    if config.clip_low is None and config.clip_high is None and config.dual_clip is None:
        return losses, None, None
    with torch.no_grad():  # a clip never passes a gradient: wherever it changes the loss, it makes it a constant
        low = None if config.clip_low is None else 1 - config.clip_low
        high = None if config.clip_high is None else 1 + config.clip_high
        clipped = losses if low is None and high is None else torch.maximum(losses, cost * ratio.clamp(low, high))
        raised, lowered = clipped > losses, None
        if config.dual_clip is not None:
            bounded = torch.minimum(clipped, torch.where(cost > 0, cost * config.dual_clip, torch.inf))
            lowered = clipped > bounded
            clipped = bounded
    return torch.where(clipped != losses, clipped, losses), raised, lowered


def _off_policy_losses(batch: Aggregator, log_ratio: Tensor, cost: Tensor, config: ObjectiveConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """Token losses -A·f(π/b), with the bounds on the shaped ratio where the config has them; ``cost`` is -A."""
    off_policy = batch.off_policy
    log_ratio = log_ratio.clamp(max=_LOG_RATIO_BOUND)
    ratio = config.shaping(log_ratio)
    demonstrated = off_policy.to(ratio.dtype)
    metrics = {names.OFF_POLICY_RATIO: batch.share(log_ratio.detach().exp(), demonstrated)}
    low, high = config.off_policy_min_clip, config.off_policy_max_clip
    changed = None
    if low is not None or high is not None:
        free, ratio = ratio.detach(), ratio.clamp(low, high)
        changed = ratio != free
    metrics[names.OFF_POLICY_SHAPED] = batch.share(ratio.detach(), demonstrated)
    if not config.clip_off_policy:
        losses = cost * ratio
    else:
        losses, *bounds = _clipped(cost, ratio, config)
        for bound in (each for each in bounds if each is not None):
            changed = bound if changed is None else changed | bound
    if changed is not None:
        metrics[names.OFF_POLICY_CLIPFRAC] = batch.share(off_policy & changed)
    return losses, metrics


def _check_present(config: ObjectiveConfig, step: int, entropy_coefficient: float, **tensors: Tensor | None) -> None:
    for name, key, coefficient in (
        ("entropy", "entropy_coefficient", entropy_coefficient),
        ("ref_log_prob", "kl_coefficient", config.coefficient("kl", step)),
        ("teacher_log_prob", "distill_coefficient", config.coefficient("distill", step)),
    ):
        if tensors[name] is None and coefficient:
            raise InputError(f"{key} is {coefficient}, but {name} is None; pass {name}, or set {key} to 0")


def _check_shapes(log_prob: Tensor, row_correct: Tensor | None, **tensors: Tensor | None) -> None:
    if row_correct is not None and row_correct.shape != log_prob.shape[:1]:
        raise InputError(f"row_correct has shape {tuple(row_correct.shape)}; log_prob has {log_prob.shape[0]} rows, [B]")
    for name, tensor in tensors.items():
        if tensor is not None and tensor.shape != log_prob.shape:
            raise InputError(f"{name} has shape {tuple(tensor.shape)}; log_prob has {tuple(log_prob.shape)}, [B, T]")
