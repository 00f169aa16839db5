"""The objective, read first: :mod:`luffy.objective.loss`, its shapings, parts, aggregation, divergences and entropy coefficient."""

from luffy.objective.aggregation import BatchTotals
from luffy.objective.config import ObjectiveConfig
from luffy.objective.loss import MixedPolicyLoss, mixed_policy_loss
from luffy.objective.method import load_method
from luffy.objective.token_values import TokenValues

__all__ = ["BatchTotals", "MixedPolicyLoss", "ObjectiveConfig", "TokenValues", "load_method", "mixed_policy_loss"]
