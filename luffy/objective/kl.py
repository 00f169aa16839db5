"""Estimators of the KL divergence from one sampled token, under the names that veRL gives them.

Source: J. Schulman, "Approximating KL divergence" (2020), k1 to k3. A trailing ``+`` keeps the estimator's value and
takes the gradient of k2, which is an unbiased estimate of the gradient of the KL divergence.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

KLEstimator = Literal["kl", "k1", "abs", "mse", "k2", "low_var_kl", "k3", "k1+", "k3+"]

DistillEstimator = Literal["sampled", "k2", "k3"]

_LOG_RATIO_BOUND = 20.0
_VALUE_BOUND = 10.0


def kl_estimate(log_ratio: Tensor, estimator: KLEstimator) -> Tensor:
    """KL(π_θ ‖ π_ref) estimated at each token that π_θ sampled.

    Args:
        log_ratio: log π_θ - log π_ref, any shape, in nats.
        estimator: ``kl``/``k1``, ``abs``, ``mse``/``k2``, ``low_var_kl``/``k3``, or ``k1+``, ``k3+``.

    Returns:
        The estimates, of the same shape, in nats; 0 where the log ratio is 0.
    """
    if estimator.endswith("+"):
        surrogate = 0.5 * log_ratio.square()
        return surrogate - surrogate.detach() + kl_estimate(log_ratio, "k1" if estimator == "k1+" else "k3").detach()
    match estimator:
        case "kl" | "k1":
            return log_ratio
        case "abs":
            return log_ratio.abs()
        case "mse" | "k2":
            return 0.5 * log_ratio.square()
        case "low_var_kl" | "k3":
            inverse = (-log_ratio).clamp(-_LOG_RATIO_BOUND, _LOG_RATIO_BOUND)
            return (inverse.exp() - inverse - 1).clamp(-_VALUE_BOUND, _VALUE_BOUND)
    raise AssertionError(f"no such estimator: {estimator}")


def distill_estimate(log_prob: Tensor, teacher_log_prob: Tensor, estimator: DistillEstimator) -> Tensor:
    """KL(π_θ ‖ π_T) estimated at each token that π_θ sampled.

    Args:
        log_prob: log π_θ, any shape, in nats, with gradient.
        teacher_log_prob: log π_T, of the same shape.
        estimator: ``sampled`` has the gradient (log π_θ - log π_T) · ∇log π_θ, which is that of k1 under sampling (k1 itself, differentiated,
            would not see the teacher); ``k2`` and ``k3`` are those of :func:`kl_estimate`.

    Returns:
        The estimates, of the same shape; those of ``sampled`` are a surrogate, whose value is no divergence.
    """
    log_ratio = log_prob - teacher_log_prob
    if estimator == "sampled":
        return log_ratio.detach().clamp(-_LOG_RATIO_BOUND, _LOG_RATIO_BOUND) * log_prob
    return kl_estimate(log_ratio, estimator)
