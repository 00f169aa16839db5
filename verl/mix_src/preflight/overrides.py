"""Overrides as they were typed: every key must exist, and a training must read it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from luffy.config import LuffyConfig
from luffy.errors import InputError
from luffy.released_options import explain
from verl.mix_src.preflight.reads import HANDED_ON, is_read

INSTEAD = {
    "actor_rollout_ref.actor.clip_ratio": "set luffy.objective.clip_low and luffy.objective.clip_high",
    "actor_rollout_ref.actor.clip_ratio_low": "set luffy.objective.clip_low",
    "actor_rollout_ref.actor.clip_ratio_high": "set luffy.objective.clip_high",
    "actor_rollout_ref.actor.clip_ratio_c": "set luffy.objective.dual_clip",
    "actor_rollout_ref.actor.loss_agg_mode": "set luffy.objective.aggregation",
    "actor_rollout_ref.actor.loss_scale_factor": "set luffy.objective.constant_length",
    "actor_rollout_ref.actor.kl_loss_coef": "set luffy.objective.kl_coefficient",
    "actor_rollout_ref.actor.kl_loss_type": "set luffy.objective.kl_estimator",
    "actor_rollout_ref.actor.policy_loss": "the loss is luffy.objective.*",
    "algorithm.norm_adv_by_std_in_grpo": "set luffy.advantage.normalize_std",
    "algorithm.gamma": "an advantage is the whole response's (luffy.advantage.*): nothing is discounted",
    "algorithm.lam": "an advantage is the whole response's (luffy.advantage.*): nothing is discounted",
    "custom_reward_function": "set reward.custom_reward_function.*",
    "reward_model": "set reward.reward_model.*",
    "sandbox_fusion": "set reward.sandbox_fusion.*",
    "critic": "there is no critic: advantages are a group's",
    "distillation": "the loss knows no teacher but the demonstrations",
}
"""What to do in place of a key, or of any key below a node, that a training does not read."""

SWITCHED = {
    "algorithm.kl_ctrl": ("algorithm.use_kl_in_reward",),
    "algorithm.kl_penalty": ("algorithm.use_kl_in_reward",),
    "algorithm.rollout_correction.rollout_is_threshold": ("algorithm.rollout_correction.rollout_is",),
    "algorithm.rollout_correction.rollout_is_batch_normalize": ("algorithm.rollout_correction.rollout_is",),
    "algorithm.rollout_correction.rollout_rs_threshold": ("algorithm.rollout_correction.rollout_rs",),
    "actor_rollout_ref.ref": ("actor_rollout_ref.actor.use_kl_loss", "algorithm.use_kl_in_reward"),
    "actor_rollout_ref.actor.ppo_max_token_len_per_gpu": ("actor_rollout_ref.actor.use_dynamic_bsz",),
    "actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu": ("actor_rollout_ref.rollout.log_prob_use_dynamic_bsz",),
    "actor_rollout_ref.model.lora_alpha": ("actor_rollout_ref.model.lora_rank",),
    "actor_rollout_ref.model.target_modules": ("actor_rollout_ref.model.lora_rank",),
    "actor_rollout_ref.model.exclude_modules": ("actor_rollout_ref.model.lora_rank",),
    "trainer.resume_from_path": ("trainer.resume_mode",),
}
"""Keys, and nodes, that are read only where one of these is on; beside every node's own ``enable`` (:data:`SWITCHES`)."""

SWITCHED_OFF = {
    "actor_rollout_ref.actor.ppo_micro_batch_size": "actor_rollout_ref.actor.use_dynamic_bsz",
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu": "actor_rollout_ref.actor.use_dynamic_bsz",
    "actor_rollout_ref.rollout.log_prob_micro_batch_size": "actor_rollout_ref.rollout.log_prob_use_dynamic_bsz",
    "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu": "actor_rollout_ref.rollout.log_prob_use_dynamic_bsz",
}
"""Keys that are read only where another is off."""

RL_CONFIG = "mix_ppo"
SWITCHES = ("enable", "enabled")
ALWAYS_ON = ("transfer_queue",)  # the V1 trainer turns it on by itself
OWN = ("luffy", "hydra", "dry_run")
OTHER_CONFIGS = ("--config-", "-cd", "-cn", "-cp")
TRAINER_MODES = ("sync", "colocate_async", "separate_async")


def check_command_line(arguments: Sequence[str], *, module: str = "verl.mix_src.config", name: str = RL_CONFIG) -> None:
    """:func:`check_overrides` for what was typed after a command; Hydra's own flags and their values are left to Hydra."""
    overrides = [each for each in arguments if not each.startswith("-") and ("=" in each or each.startswith("~"))]
    if any(each.startswith(OTHER_CONFIGS) for each in arguments):
        _check_names(overrides)  # the rest of the config is in files of the user's, which Hydra finds
    else:
        check_overrides(overrides, module=module, name=name)


def check_overrides(overrides: Sequence[str], *, module: str = "verl.mix_src.config", name: str = RL_CONFIG) -> None:
    """Check Hydra overrides before Hydra's own start, which would answer some with a traceback and others not at all.

    Args:
        overrides: as typed, ``key=value``, ``+key=value`` or ``~key``.
        module: the package of config files that they override.
        name: the primary config there.

    Raises:
        InputError: on an option of LUFFY's released code (with the new key), an unknown key (with the nearest known one), or a
            key of veRL that this training would not read (with what to do instead).
    """
    _check_names(overrides)
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        config, groups = _composed(overrides, module, name)
    except HydraException as error:
        said = " ".join(str(error).partition("Config search path")[0].partition("See https")[0].split())
        raise InputError(_unknown(overrides, module, name) or said) from error
    if name == RL_CONFIG:
        for problem in unread([each.key_or_group for each in parsed if _is_value(each, groups)], config):
            raise InputError(problem)


def _check_names(overrides: Sequence[str]) -> None:
    for override in overrides:
        if message := explain(override):
            raise InputError(message)
        key, _, value = override.lstrip("+~").partition("=")
        if key.startswith("luffy."):
            LuffyConfig.check_key(key)
        if key == "model_engine" and value != "dp":
            raise InputError(f"model_engine={value}: the gradient of this extension is tested on veRL's FSDP engine alone; leave it out")


def unread(keys: Sequence[str], config: DictConfig) -> Iterator[str]:
    """A line for each key that was set and that a training with ``config`` does not read."""
    for key in keys:
        if key.partition(".")[0] in OWN:
            continue
        if not _helps(key):
            instead = next((INSTEAD[each] for each in _above(key) if each in INSTEAD), None)
            yield f"{key} has no effect here: {instead or 'nothing in a LUFFY training reads it; leave it out'}"
        elif switch := _switch_against(key, config):
            value = OmegaConf.select(config, switch)
            said = "null" if value is None else str(value).lower()
            yield f"{key} has no effect while {switch} is {said}: change that too, or leave {key} out"


def _helps(key: str) -> bool:
    """Whether it does anything to set a key."""
    first = key.partition(".")[0]
    return first in OWN or (first not in INSTEAD and is_read(key))


def _switch_against(key: str, config: DictConfig) -> str | None:
    """The key that keeps ``key`` from being read; None where nothing does."""
    part = key.split(".")
    if part[:2] == ["trainer", "v1"] and part[2] in TRAINER_MODES:
        return None if config.trainer.v1.trainer_mode == part[2] else "trainer.v1.trainer_mode"
    if _is_on(config, other := SWITCHED_OFF.get(key, "")):
        return other
    above = _above(key)
    needed = [SWITCHED[each] for each in above if each in SWITCHED]
    for node in above[1:]:
        own = [f"{node}.{name}" for name in SWITCHES if OmegaConf.is_dict(below := OmegaConf.select(config, node)) and name in below]
        needed += [own] if own and node not in ALWAYS_ON else []
    return next((any_of[0] for any_of in needed if key not in any_of and not any(_is_on(config, each) for each in any_of)), None)


def _is_on(config: DictConfig, key: str) -> bool:
    return bool(key) and OmegaConf.select(config, key) not in (None, False, 0, "disable", "auto")


def _above(key: str) -> list[str]:
    """The key itself and every node above it, from the inside out."""
    parts = key.split(".")
    return [".".join(parts[:length]) for length in range(len(parts), 0, -1)]


def _is_value(override: Override, groups: Sequence[str]) -> bool:
    return override.key_or_group not in groups and "/" not in override.key_or_group and not override.is_delete()


def _composed(overrides: Sequence[str], module: str, name: str) -> tuple[DictConfig, list[str]]:
    """The config with these overrides, and the names of its groups of files (``profile``, ``experiment``, ...)."""
    with initialize_config_module(module, version_base=None):
        config = compose(name, overrides=list(overrides), return_hydra_config=True)
    return config, list(config.hydra.runtime.choices)


def _unknown(overrides: Sequence[str], module: str, name: str) -> str | None:
    """What is wrong with the first override that names a key that is not there; None where another thing is wrong."""
    try:
        config, groups = _composed((), module, name)
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException:
        return None
    known = _keys(config)
    useful = [*groups, *sorted(each for each in known if not each.startswith("hydra"))]
    for override in parsed:
        key = override.key_or_group
        if _is_value(override, groups) and not override.is_add() and key not in known:
            if any(each in HANDED_ON for each in _above(key)):
                return f"{key} is not there yet: +{key}=... adds it"
            near = _nearest(key, useful, _helps if name == RL_CONFIG else bool)
            return f"unknown key {key}; " + (f"did you mean {near}?" if near else "see --cfg job for every key")
    return None


def _keys(config: DictConfig) -> set[str]:
    """Every node and key of the config, with its full name."""

    def below(tree: Any, prefix: str) -> Iterator[str]:
        for name, value in tree.items() if isinstance(tree, dict) else ():
            yield prefix + str(name)
            yield from below(value, f"{prefix}{name}.")

    return set(below(OmegaConf.to_container(config), ""))


def _nearest(key: str, known: Sequence[str], helps: Callable[[str], bool]) -> str | None:
    """The known key that was meant: the same name at another place, else the most similar one; unread ones are no help."""
    leaf = key.rpartition(".")[2]
    same = [each for each in known if each.rpartition(".")[2] == leaf]
    for candidates, cutoff in ((same, 0.0), (known, 0.6)):
        for near in difflib.get_close_matches(key, candidates, n=5, cutoff=cutoff):
            if "." not in near or helps(near):
                return near
    return None
