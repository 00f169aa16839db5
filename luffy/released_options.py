"""Options of LUFFY's released code, and what to use here instead.

The names are those of its ``mix_ppo_trainer.yaml`` and its scripts. Options that veRL itself still has under the same
name are not listed. ``docs/migrating.md`` shows the whole table; a test keeps the two equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from luffy.objective.shaping import readers

ACTOR = "actor_rollout_ref.actor."
ROLLOUT = "actor_rollout_ref.rollout."
ANY_VALUE = "{value}"


@dataclass(frozen=True, kw_only=True)
class ReleasedOption:
    """One option of the released code.

    Attributes:
        key: its full key there.
        by_value: old value to new override(s), where the value decides.
        otherwise: for any other value: a new override with ``{value}`` in it, or "dropped: why".
    """

    key: str
    by_value: Mapping[str, str] = field(default_factory=dict)
    otherwise: str = ""

    def replacement(self, value: str) -> str:
        """What to use instead of ``key=value``."""
        return self.by_value.get(_plain(value), self.otherwise).replace(ANY_VALUE, value)


def _plain(value: str) -> str:
    """``-1`` for -1.0, ``true`` for True: one spelling of each value."""
    try:
        return f"{float(value):g}"
    except ValueError:
        return value.lower()


def _renamed(key: str, new: str) -> ReleasedOption:
    return ReleasedOption(key=key, otherwise=f"{new}={ANY_VALUE}")


def _nullable(key: str, new: str) -> ReleasedOption:
    """An option whose -1 means "off"."""
    return ReleasedOption(key=key, by_value={"-1": f"{new}=null"}, otherwise=f"{new}={ANY_VALUE}")


def _dropped(key: str, why: str) -> ReleasedOption:
    return ReleasedOption(key=key, otherwise=f"dropped: {why}")


def _shapings(key: str, gamma: str) -> dict[str, str]:
    named = {"no_reshape": "identity", "logp": "log", "p_logp": "p_plus_log", "square_root": "sqrt", "pow": "pow"}
    shapings = {old: f"{key}={new}" for old, new in named.items()}
    return shapings | {f"p_div_p_{value}": f"{key}=p_div_p {gamma}={value}" for value in ("0.1", "0.3", "0.5")}


_NO_PREFIX_REWARD = "nothing but the verifier's reward is given"
_NO_FILTER = "in the released code it leaves no demonstration out; to use them only where needed, set luffy.guidance.on_demand_below"
_NOT_READ = "the released code does not read it"
_PROMPT_FILTER = "prompts are filtered when data is prepared, and a group of equal rewards gives no gradient"

RELEASED_OPTIONS: tuple[ReleasedOption, ...] = (
    # Objective
    ReleasedOption(
        key=ACTOR + "use_off_policy_loss",
        by_value={"true": "dropped: it is so wherever a group has demonstrations"},
        otherwise="luffy.objective.off_policy_weight=0.0",
    ),
    _dropped(ACTOR + "off_policy_loss_impl", "the loss is always a token's, as with the value token"),
    ReleasedOption(
        key=ACTOR + "off_policy_reshape",
        by_value=_shapings("luffy.objective.shaping.name", "luffy.objective.shaping.gamma"),
        otherwise="luffy.objective.shaping.name=p_div_p (or identity, log, p_plus_log, sqrt, pow) luffy.objective.shaping.gamma=0.1",
    ),
    _renamed(ACTOR + "off_policy_reshape_weight", "luffy.objective.shaping.weight"),
    _renamed(ACTOR + "off_policy_reshape_pow_exp", "luffy.objective.shaping.exponent"),
    ReleasedOption(
        key=ACTOR + "on_policy_reshape",
        by_value=_shapings("luffy.objective.on_policy_shaping.name", "luffy.objective.on_policy_shaping.gamma")
        | {"logp": "luffy.objective.on_policy_shaping.name=log luffy.objective.on_policy_shaping.weight=1.0"},
        otherwise="luffy.objective.on_policy_shaping.name=identity (or log, p_plus_log, sqrt, pow, p_div_p)",
    ),
    _renamed(ACTOR + "on_policy_reshape_weight", "luffy.objective.on_policy_shaping.weight"),
    _renamed(ACTOR + "on_policy_reshape_pow_exp", "luffy.objective.on_policy_shaping.exponent"),
    _nullable(ACTOR + "off_policy_max_clip", "luffy.objective.off_policy_max_clip"),
    _nullable(ACTOR + "off_policy_min_clip", "luffy.objective.off_policy_min_clip"),
    _nullable(ACTOR + "all_max_clip", "luffy.objective.max_probability"),
    _dropped(ACTOR + "off_policy_cliprange", _NOT_READ),
    _dropped(ACTOR + "off_policy_normalize", _NOT_READ),
    _dropped(ACTOR + "use_off_policy_clip", _NOT_READ),
    _dropped(ACTOR + "use_off_policy_probs", "a target_probs column in the data is used where it is present"),
    ReleasedOption(
        key=ACTOR + "loss_remove_token_mean",
        by_value={"true": "luffy.objective.aggregation=constant", "false": "luffy.objective.aggregation=token_mean"},
        otherwise="luffy.objective.aggregation=constant (or token_mean, sequence_mean)",
    ),
    ReleasedOption(
        key=ACTOR + "loss_remove_clip",
        by_value={
            "true": "luffy.objective.clip_low=null luffy.objective.clip_high=null",
            "false": "luffy.objective.clip_low=0.2 luffy.objective.clip_high=0.2",
        },
        otherwise="luffy.objective.clip_low and luffy.objective.clip_high (null: no clip)",
    ),
    ReleasedOption(
        key=ACTOR + "clip_upper_bound",
        by_value={"1": "luffy.objective.clip_high=0.2"},
        otherwise="luffy.objective.clip_high: the larger of the old value and 1.2, minus 1 (it is the ε of the bound 1 + ε)",
    ),
    ReleasedOption(
        key=ACTOR + "use_sft_multitask_loss",
        by_value={
            "true": "luffy.objective.sft_coefficient=1.0 luffy.objective.off_policy_weight=0.0 luffy.advantage.baseline=on_policy",
            "false": "luffy.objective.sft_coefficient=0.0",
        },
        otherwise="luffy.objective.sft_coefficient",
    ),
    _renamed(ACTOR + "sft_loss_coef", "luffy.objective.sft_coefficient"),
    ReleasedOption(
        key=ACTOR + "use_ppo_kl_loss",
        by_value={
            "true": "luffy.objective.kl_to_old_coefficient=0.01",
            "false": "luffy.objective.kl_to_old_coefficient=0.0",
        },
        otherwise="luffy.objective.kl_to_old_coefficient",
    ),
    _renamed(ACTOR + "ppo_kl_loss_coef", "luffy.objective.kl_to_old_coefficient"),
    _dropped(ACTOR + "use_sft_prefix_reward", _NO_PREFIX_REWARD),
    _dropped(ACTOR + "use_sft_reward", _NO_PREFIX_REWARD),
    _dropped(ACTOR + "sft_prefix_reward_weight", _NO_PREFIX_REWARD),
    # Entropy
    ReleasedOption(
        key=ACTOR + "use_adaptive_temperature",
        by_value={"true": "luffy.entropy.mode=learned", "false": "luffy.entropy.mode=fixed"},
        otherwise="luffy.entropy.mode=learned (or fixed, rule)",
    ),
    ReleasedOption(
        key=ACTOR + "use_adaptive_temperature_fixed",
        by_value={"true": "luffy.entropy.mode=rule", "false": "luffy.entropy.mode=learned"},
        otherwise="luffy.entropy.mode=rule (or fixed, learned)",
    ),
    _renamed(ACTOR + "adaptive_temperature_target_entropy", "luffy.entropy.target"),
    _nullable(ACTOR + "adaptive_temperature_clip", "luffy.entropy.max_coefficient"),
    _renamed(ACTOR + "alpha_lr", "luffy.entropy.learning_rate"),
    # Guidance
    _renamed(ROLLOUT + "n_prefix", "luffy.guidance.n_demonstrations"),
    ReleasedOption(
        key=ROLLOUT + "prefix_strategy",
        by_value={"linear_variance": "dropped: the released code has no rollout for it; see luffy.guidance.schedule"},
        otherwise=f"luffy.guidance.schedule={ANY_VALUE}",
    ),
    ReleasedOption(
        key=ROLLOUT + "prefix_steps",
        otherwise="luffy.guidance.steps, where the schedule runs over steps (linear, linear_max, reverse_linear); beside another "
        "one the released code accepts it and does not read it",
    ),
    _renamed(ROLLOUT + "min_prefix_ratio", "luffy.guidance.min_ratio"),
    ReleasedOption(
        key=ROLLOUT + "max_prefix_ratio",
        by_value={"0": "luffy.guidance.n_demonstrations=0"},
        otherwise=f"luffy.guidance.max_ratio={ANY_VALUE}",
    ),
    _renamed(ROLLOUT + "prefix_linear_max_ratio", "luffy.guidance.max_ratio"),
    _dropped(ROLLOUT + "prefix_linear_max_var", _NOT_READ),
    _renamed(ROLLOUT + "prefix_share_across_samples", "luffy.guidance.share_ratio"),
    _renamed(ROLLOUT + "prefix_reward_weight_alpha", "luffy.objective.off_policy_weight"),
    _renamed(ROLLOUT + "prefix_reward_weight_beta", "luffy.objective.on_policy_weight"),
    _dropped(ROLLOUT + "prefix_reward_strategy", _NOT_READ),
    _dropped(ROLLOUT + "max_prefix_len", "a trace is as long as data.max_response_length lets it be"),
    _renamed("data.sample_target_ratio", "luffy.guidance.sampling_ratio"),
    _dropped("data.add_tgt_with_acc", _NO_FILTER),
    _dropped("data.add_tgt_acc_upper_bound", _NO_FILTER),
    # Advantages
    _renamed("algorithm.grpo_use_std", "luffy.advantage.normalize_std"),
    ReleasedOption(
        key="algorithm.adv_estimator",
        by_value={"grpo_split": "luffy.advantage.baseline=on_policy", "grpo": "luffy.advantage.baseline=group"},
    ),
    _renamed("data.disable_truncation_advantage", "luffy.advantage.zero_truncated"),
    _dropped("algorithm.surprisal_base", _NOT_READ),
    # Reward and data
    ReleasedOption(
        key="data.reward_impl_version",
        by_value={"3": "reward.reward_kwargs.thought_gate=true", "4": "reward.reward_kwargs.thought_gate=false"},
        otherwise="dropped: only the Math-Verify rewards (3 with the thought gate, 4 without) are kept",
    ),
    _dropped("data.filter_targets", "traces are filtered when data is prepared"),
    _dropped("data.filter_accuracy", _PROMPT_FILTER),
    _dropped("data.accuracy_lower_bound", _PROMPT_FILTER),
    _dropped("data.accuracy_upper_bound", _PROMPT_FILTER),
    _dropped(ACTOR + "use_target_lst", "several traces of a prompt are entries of its target column"),
    # Framework
    _renamed(ROLLOUT + "val_temperature", "actor_rollout_ref.rollout.val_kwargs.temperature"),
    _renamed(ROLLOUT + "n_val", "actor_rollout_ref.rollout.val_kwargs.n"),
    _renamed("trainer.max_optim_to_keep", "trainer.max_actor_ckpt_to_keep"),
    _dropped("actor_rollout_ref.ref.use_ref", "the reference model is loaded where actor_rollout_ref.actor.use_kl_loss=true"),
    _dropped(ACTOR + "fsdp_config.grad_offload", "veRL has no such option any more"),
    _dropped("trainer.rejection_sample", _PROMPT_FILTER),
    _dropped("trainer.rejection_sample_multiplier", _PROMPT_FILTER),
    _dropped("trainer.add_full_target_when_none", _NOT_READ),
    _dropped("trainer.skip_valid_mask", _PROMPT_FILTER),
    _dropped("trainer.acc_rebatch", _PROMPT_FILTER),
    _dropped("trainer.skip_by_step", _PROMPT_FILTER),
    _dropped("trainer.debug", "use a debugger"),
    _dropped(ACTOR + "debug", "use a debugger"),
)
"""Every option of the released code that is not veRL's own."""

FRAMEWORK_OPTIONS: tuple[ReleasedOption, ...] = (
    _renamed(ACTOR + "entropy_coeff", "luffy.entropy.coefficient"),
    _renamed(ACTOR + "kl_loss_coef", "luffy.objective.kl_coefficient"),
    _renamed(ACTOR + "kl_loss_type", "luffy.objective.kl_estimator"),
    _dropped(ACTOR + "ppo_micro_batch_size", "micro-batches are cut by tokens (actor.use_dynamic_bsz)"),
    _dropped("algorithm.kl_ctrl.kl_coef", "no KL is taken from the rewards (algorithm.use_kl_in_reward)"),
    _dropped("actor_rollout_ref.ref.fsdp_config.param_offload", "without a KL term no reference model is loaded"),
)
"""Options of the released scripts that veRL still has, and that do nothing or something else here."""

SILENT_DEFAULTS = (
    ACTOR + "loss_remove_clip=false",
    "algorithm.grpo_use_std=true",
    ROLLOUT + "n_prefix=-1",
)
"""What a script of the released code gets where it leaves these out; the defaults here are those of its ``train.sh``."""

_BY_KEY = {option.key: option for option in RELEASED_OPTIONS}


def translate(overrides: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The overrides of one of the released scripts, as they are written here.

    Args:
        overrides: all of the script's, in its order.

    Returns:
        New overrides (key to value), the later ones before the earlier ones where two set a key; and the old keys that have no
        counterpart, each with the reason.
    """
    given = {_split(each)[0] for each in overrides}
    options = _BY_KEY | {option.key: option for option in FRAMEWORK_OPTIONS}
    new: dict[str, str] = {}
    dropped: dict[str, str] = {}
    origin: dict[str, str] = {}
    silent = [each for each in SILENT_DEFAULTS if _split(each)[0] not in given]
    last = ROLLOUT + "max_prefix_ratio"  # 0 means no demonstration, however many n_prefix asks for
    for override in sorted([*silent, *overrides], key=lambda each: _split(each)[0] == last):
        key, value = _split(override)
        replacement = options[key].replacement(value) if key in options else ""
        if replacement.startswith("luffy.") and any("=" not in each for each in replacement.split()):
            dropped[key] = f"set by hand: {replacement}"
        elif replacement.startswith("dropped: "):
            dropped[key] = replacement.removeprefix("dropped: ")
        else:
            made = dict(each.split("=", 1) for each in replacement.split()) if replacement else {key: value}
            new, origin = new | made, origin | dict.fromkeys(made, key)
    for node, default in (("luffy.objective.shaping", "p_div_p"), ("luffy.objective.on_policy_shaping", "identity")):
        name = new.get(f"{node}.name", default)
        for key in [each for each in new if each.startswith(f"{node}.") and not each.endswith(".name")]:
            if name not in readers(key.rpartition(".")[2]):
                del new[key]
                dropped[origin[key]] = f"shaping {name} does not read it"
    return new, dropped


def _split(override: str) -> tuple[str, str]:
    key, _, value = override.lstrip("+~").partition("=")
    return key, value.strip("'\"")


def explain(override: str) -> str | None:
    """Say what to use instead of an override of the released code.

    Args:
        override: a Hydra override, as ``actor_rollout_ref.actor.off_policy_reshape=p_div_p_0.1``.

    Returns:
        One line with the new key and value, or with why there is none; None where the override is not one of them.
    """
    key, value = _split(override)
    option = _BY_KEY.get(key)
    replacement = option.replacement(value) if option else ""
    if not replacement:
        return None
    if replacement.startswith("dropped: "):
        return f"{key} is an option of LUFFY's released code and has no place here: {replacement.removeprefix('dropped: ')}"
    return f"{key} is an option of LUFFY's released code; here it is: {replacement}"
