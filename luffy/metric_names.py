"""Names of the objective's metrics, and the last step from their contributions to what a log shows.

Every metric of a micro-batch is a *contribution*: a sum over tokens divided by a number of the whole mini-batch, so
that contributions of micro-batches and of ranks add up to the mini-batch's value. A mean over the on-policy or the
off-policy tokens alone cannot be such a sum: it is contributed as a sum over those tokens divided by the number of all
response tokens, under a name that ends in ``_contribution``; :func:`finish` divides by that source's share.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor

CONTRIBUTION = "_contribution"

LOSS = "actor/loss"
POLICY_LOSS = "actor/pg_loss"
ON_POLICY_LOSS = "actor/on_policy_loss"
OFF_POLICY_LOSS = "actor/off_policy_loss"
SFT_LOSS = "actor/sft_loss"
DISTILL_LOSS = "actor/distill_loss"
KL_LOSS = "actor/kl_loss"
KL_TO_OLD_LOSS = "actor/kl_to_old_loss"
ENTROPY_LOSS = "actor/entropy_loss"

ENTROPY = "actor/entropy"
ON_POLICY_FRACTION = "actor/on_policy_fraction"
OFF_POLICY_FRACTION = "actor/off_policy_fraction"
DROPPED_FRACTION = "actor/dropped_fraction"

PPO_KL = "actor/ppo_kl"
CLIPFRAC = "actor/pg_clipfrac"
CLIPFRAC_LOWER = "actor/pg_clipfrac_lower"
OFF_POLICY_RATIO = "actor/off_policy_ratio"
OFF_POLICY_SHAPED = "actor/off_policy_shaped"
OFF_POLICY_CLIPFRAC = "actor/off_policy_clipfrac"

MEANING: Mapping[str, str] = MappingProxyType(
    {
        LOSS: "the loss: the sum of all weighted terms",
        POLICY_LOSS: "policy term, on- and off-policy tokens together",
        ON_POLICY_LOSS: "the on-policy tokens' part of the policy term",
        OFF_POLICY_LOSS: "the off-policy tokens' part of the policy term",
        SFT_LOSS: "-log probability of the off-policy tokens, weighted and aggregated as configured, before its coefficient",
        DISTILL_LOSS: "estimate of the divergence from the teacher, weighted and aggregated as configured, before its coefficient",
        KL_LOSS: "KL divergence to the reference policy, aggregated as configured, before its coefficient",
        KL_TO_OLD_LOSS: "KL divergence to the sampling policy, aggregated like the policy term, before its coefficient",
        ENTROPY_LOSS: "entropy, aggregated as configured, before its coefficient",
        ENTROPY: "mean entropy of a response token, nats",
        ON_POLICY_FRACTION: "share of the response tokens that the policy sampled",
        OFF_POLICY_FRACTION: "share of the response tokens that a demonstration gave",
        DROPPED_FRACTION: "share of the response tokens that max_probability took out of the policy term",
        PPO_KL: "mean of log π_old - log π over the on-policy tokens, nats",
        CLIPFRAC: "share of the on-policy tokens whose loss the PPO clip raised",
        CLIPFRAC_LOWER: "share of the on-policy tokens whose loss the dual clip lowered",
        OFF_POLICY_RATIO: "mean π/π_φ of the off-policy tokens: their probability, where π_φ is taken as 1",
        OFF_POLICY_SHAPED: "mean f(π/π_φ) of the off-policy tokens: their ratio after shaping and its bounds",
        OFF_POLICY_CLIPFRAC: "share of the off-policy tokens whose loss a bound or a clip changed",
    }
)
"""What each metric of the objective means."""

SOURCE_FRACTION: Mapping[str, str] = MappingProxyType(
    dict.fromkeys((PPO_KL, CLIPFRAC, CLIPFRAC_LOWER), ON_POLICY_FRACTION)
    | dict.fromkeys((OFF_POLICY_RATIO, OFF_POLICY_SHAPED, OFF_POLICY_CLIPFRAC), OFF_POLICY_FRACTION)
)
"""Means over one source of tokens, and the share that turns their contribution into that mean."""


def contributions(metrics: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename sums over one source's tokens so that nobody takes them for means."""
    return {name + CONTRIBUTION: value for name, value in metrics.items()}


def finish(summed: Mapping[str, float]) -> dict[str, float]:
    """Turn a mini-batch's summed contributions into the values to log.

    Args:
        summed: metric names of :func:`luffy.objective.mixed_policy_loss` to the sum over micro-batches and ranks.

    Returns:
        The same metrics without any ``_contribution``: those become means over their source's tokens, and are left out
        where there is no such token.
    """
    finished = {}
    for key, value in summed.items():
        name = key.removesuffix(CONTRIBUTION)
        if name == key:
            finished[key] = value
        elif share := summed[SOURCE_FRACTION[name]]:
            finished[name] = value / share
    return finished
