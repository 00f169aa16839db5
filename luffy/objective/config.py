"""Settings of the objective; the defaults are those of the released training script.

The loss is a sum of streams (policy, sft, distill, kl, entropy), each a coefficient times a weighted sum of token losses over a divisor.
A coefficient of 0 takes its stream out, whatever the stream's other settings are.
The entropy bonus's coefficient may change from step to step: it is an argument of the loss, and set in ``luffy.entropy``.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from luffy.objective.aggregation import Aggregation, Divisor, OfRows
from luffy.objective.kl import DistillEstimator, KLEstimator
from luffy.objective.parts import Advantage, Behaviour, Denominator, Group, Old, Plain, Teacher, TokenWeight
from luffy.objective.shaping import Identity, PDivP, Shaping
from luffy.schedules import Coefficient, Schedule, ShareOverTime, at, is_on, require_within
from luffy.settings import Follows, NotNegative, Share, require, settings

_WHERE = "luffy.objective"
_COEFFICIENTS = ("policy_coefficient", "sft_coefficient", "distill_coefficient", "kl_coefficient")

TokensOf = Literal["all", "on_policy"]


@settings(_WHERE)
class ObjectiveConfig:
    """Which terms the loss has, and with what numbers. Probabilities and ratios have no unit; entropy is in nats."""

    shaping: Shaping = PDivP()
    """Shaping of the off-policy ratio: its name and its parameters (luffy/objective/shaping.py). Paper: p_div_p, gamma 0.1."""

    on_policy_shaping: Shaping = Identity()
    """Shaping of the on-policy ratio, the same choices. Paper: identity."""

    denominator: Denominator = Behaviour()
    """What π is divided by in the off-policy ratio: behaviour (the recorded probability, 1 where there is none), old, one,
    mixture, bounded (luffy/objective/parts.py). Paper: behaviour, with nothing recorded."""

    on_policy_denominator: Denominator = Old()
    """The same of the on-policy ratio. Paper: old."""

    advantage: Advantage = Group()
    """Advantage of the off-policy tokens: group (that of the row in its group), constant, verdict, teacher
    (luffy/objective/parts.py). Paper: group."""

    on_policy_advantage: Advantage = Group()
    """The same of the on-policy tokens. Paper: group."""

    token_weight: TokenWeight = Plain()
    """Weight of the off-policy tokens in the policy stream: one, probability, uncertainty, one_minus_p, row_entropy,
    importance, top_entropy (luffy/objective/parts.py). Paper: one."""

    on_policy_token_weight: TokenWeight = Plain()
    """The same of the on-policy tokens. Paper: one."""

    clip_low: Share | None = None
    """ε of the PPO clip on the on-policy ratio's low side, at 1 - ε; null does not clip. Paper: null ("no clip")."""

    clip_high: NotNegative | None = None
    """ε of the PPO clip on the high side, at 1 + ε; null does not clip. Larger than clip_low is "clip-higher".
    Paper: null."""

    dual_clip: Annotated[float, Field(gt=1)] | None = None
    """c of the dual clip: with a negative advantage A the on-policy loss is at most -c·A; above 1. Paper: null."""

    clip_off_policy: bool = False
    """Bound the off-policy ratio by clip_low, clip_high and dual_clip too. Paper: false."""

    off_policy_max_clip: float | None = None
    """Upper bound on the shaped off-policy ratio, without gradient beyond it. Paper: null."""

    off_policy_min_clip: float | None = None
    """Lower bound on the shaped off-policy ratio, without gradient below it. Paper: null."""

    max_probability: Annotated[float, Field(gt=0, le=1)] | None = None
    """Tokens of a higher probability under the current policy leave the policy term; in (0, 1]. The released code's
    all_max_clip. Paper: null."""

    on_policy_weight: NotNegative = 1.0
    """Factor on the advantages of on-policy tokens. The released code's prefix_reward_weight_beta. Paper: 1."""

    off_policy_weight: NotNegative = 1.0
    """Factor on the advantages of off-policy tokens; 0 takes the demonstrations out of the policy term. The released
    code's prefix_reward_weight_alpha. Paper: 1."""

    policy_tokens: TokensOf = "all"
    """Tokens of the policy stream: all, or on_policy, where demonstrations neither count nor enter its divisor. Paper: all."""

    policy_coefficient: Coefficient = 1.0
    """Factor on the policy stream, or its schedule. Paper: 1."""

    sft_coefficient: Coefficient = 0.0
    """Factor on -log π of the off-policy tokens, or its schedule. Paper: 0; its baseline "RL with SFT loss": 1, together
    with off_policy_weight 0 and the advantage baseline on_policy."""

    sft_weight: TokenWeight = Plain()
    """Weight of the tokens of the sft stream, the choices of token_weight. Paper: one."""

    sft_rows: OfRows = "all"
    """Demonstrations to imitate: all, or those that the verifier finds right, or wrong. Paper: all."""

    sft_divisor: Divisor | None = None
    """What the sft stream is divided by: constant_length, the number of its own tokens, or of its own rows (constant,
    own_tokens, own_rows); null: as the policy stream. Paper: null."""

    imitation_share: ShareOverTime | None = None
    """μ: multiply the sft and distill streams by μ and the policy stream by 1 - μ; in [0, 1], or its schedule; null:
    multiply none. Paper: null."""

    distill_coefficient: Coefficient = 0.0
    """Factor on the divergence from the teacher's probabilities, or its schedule. Paper: 0."""

    distill_estimator: DistillEstimator = "sampled"
    """Estimator of that divergence at the sampled token: sampled (its gradient is (log π - log π_T)·∇log π), k2, k3.
    Paper: not used."""

    distill_weight: TokenWeight = Plain()
    """Weight of the tokens of the distill stream, the choices of token_weight. Paper: not used."""

    distill_tokens: TokensOf = "all"
    """Tokens of the distill stream: all or on_policy. Paper: not used."""

    distill_rows: OfRows = "all"
    """Rows of the distill stream: all, right or wrong. Paper: not used."""

    distill_divisor: Divisor | None = None
    """What the distill stream is divided by, the choices of sft_divisor. Paper: not used."""

    kl_coefficient: Coefficient = 0.0
    """Factor on the KL divergence to the reference policy, or its schedule. Paper: 0."""

    kl_to_old_coefficient: NotNegative = 0.0
    """Factor on the KL divergence to the policy that sampled the batch. Paper: 0."""

    kl_estimator: KLEstimator = "low_var_kl"
    """Estimator of both divergences, by veRL's names: kl (k1), abs, mse (k2), low_var_kl (k3), k1+, k3+.
    Paper: not used."""

    kl_tokens: TokensOf = "all"
    """Tokens of the KL divergence to the reference policy: all or on_policy. Paper: not used."""

    kl_divisor: Divisor | None = None
    """What the KL divergence to the reference policy is divided by, the choices of sft_divisor. Paper: not used."""

    entropy_tokens: TokensOf = "all"
    """Tokens of the entropy bonus: all or on_policy. Paper: all."""

    entropy_divisor: Divisor | None = None
    """What the entropy bonus is divided by, the choices of sft_divisor. Paper: null."""

    aggregation: Aggregation = "constant"
    """From token losses to a number: "constant" divides their sum by constant_length, "token_mean" by the number of
    response tokens, "sequence_mean" averages over responses their own token mean. Paper's equation: token_mean;
    script: constant."""

    constant_length: Annotated[int, Field(gt=0), Follows("data.max_response_length")] = 8192
    """Divisor of "constant", in tokens: the longest response. Paper: 8192."""

    def __post_init__(self) -> None:
        least, most = self.off_policy_min_clip, self.off_policy_max_clip
        require(
            least is None or most is None or least <= most,
            f"{_WHERE}.off_policy_min_clip is {least}, above off_policy_max_clip {most}; exchange them",
        )
        require(
            not self.on_policy_shaping.reads_old_log_prob or isinstance(self.on_policy_denominator, Old),
            f"{_WHERE}.on_policy_shaping is f(π)/f(π_old), whose ratio is π/π_old; set on_policy_denominator.name=old",
        )
        for name in _COEFFICIENTS:
            require_within(getattr(self, name), 0.0, math.inf, f"{_WHERE}.{name}")
        require_within(self.imitation_share, 0.0, 1.0, f"{_WHERE}.imitation_share")
        require(
            not self.clip_off_policy or any(each is not None for each in (self.clip_low, self.clip_high, self.dual_clip)),
            f"{_WHERE}.clip_off_policy is true, but there is no clip; set clip_low and clip_high, or it to false",
        )
        require(
            not is_on(self.imitation_share) or is_on(self.sft_coefficient) or is_on(self.distill_coefficient),
            f"{_WHERE}.imitation_share is set, but there is nothing to imitate; set sft_coefficient or distill_coefficient",
        )

    @property
    def reads_teacher(self) -> bool:
        """Whether the loss needs the teacher's log-probabilities."""
        return is_on(self.distill_coefficient) or any(isinstance(each, Teacher) for each in (self.advantage, self.on_policy_advantage))

    @property
    def reads_old_of_demonstrations(self) -> bool:
        """Whether the loss needs log π_old of the off-policy tokens."""
        parts = (self.denominator, self.advantage, self.token_weight, self.sft_weight, self.distill_weight)
        return self.kl_to_old_coefficient > 0 or any(part.reads_old for part in parts)

    def coefficient(self, stream: str, step: int) -> float:
        """c(t) of a stream: policy, sft, distill or kl; ``step`` is counted from 0."""
        value = at(getattr(self, f"{stream}_coefficient"), step)
        if self.imitation_share is None or stream == "kl":
            return value
        share = at(self.imitation_share, step)
        return value * (1 - share if stream == "policy" else share)

    def scheduled(self, step: int) -> dict[str, float]:
        """The numbers that change over training, by their key, at a step counted from 0."""
        return {name: value.at(step) for name, value in vars(self).items() if isinstance(value, Schedule)}
