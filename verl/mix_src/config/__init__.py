"""The Hydra configs: the ``luffy:`` node beside the files, interpolations that follow other keys, and how a config is read.

Imported in every process that imports veRL, and by Hydra. Hydra finds the node as if it were the file ``luffy.yaml``.
"""

from __future__ import annotations

from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from luffy.config import LuffyConfig, luffy_node

FLASH_ATTENTION = "flash_attention_2"  # what veRL takes where no other is asked for
AUTO = "auto"  # data.val_files: hold a part of data.train_files out


def add(*numbers: int) -> int:
    """``${luffy.add:a,b}``: their sum."""
    return sum(numbers)


def held_out_of(train_files: Any, *pair: str) -> str:
    """``${luffy.held_out:${data.train_files},KNOWN...,FILE}``: FILE where the training file is one of KNOWN, else ``auto``.

    A profile's held-out problems belong to its own training files; those of another file are drawn from it.
    """
    *known, file = pair
    return file if train_files in known else AUTO


def half(number: int) -> int:
    """``${luffy.half:a}``: half of an even number, else the number."""
    return number if number % 2 else number // 2


def micro_batch(prompts: int, group: int, ranks: int, tokens: int, row_tokens: int) -> int:
    """``${luffy.micro_batch:...}``: the most rows of a micro-batch that hold so many tokens together and divide the rows of a rank."""
    rows = max(1, prompts * group // max(1, ranks))
    most = max(1, min(rows, tokens // max(1, row_tokens)))
    return max(size for size in range(1, most + 1) if rows % size == 0)


ConfigStore.instance().store(name="luffy", node=luffy_node())
ConfigStore.instance().store(name="luffy_safety", node={"safety": luffy_node()["safety"]})  # all that fine-tuning takes of it
for name, resolver in {"add": add, "half": half, "held_out": held_out_of, "micro_batch": micro_batch}.items():
    OmegaConf.register_new_resolver(f"luffy.{name}", resolver, replace=True)


def luffy_config(config: DictConfig) -> LuffyConfig:
    """The validated ``luffy:`` node of a whole training config."""
    return LuffyConfig.from_mapping(OmegaConf.to_container(config.luffy, resolve=True))


def is_rl(config: DictConfig) -> bool:
    """Whether it is a config of reinforcement learning, or else of supervised fine-tuning."""
    return "actor_rollout_ref" in config


def is_apart(config: DictConfig) -> bool:
    """Whether the rollout has GPUs of its own, with or without those of the trainer."""
    return is_rl(config) and config.trainer.v1.trainer_mode == "separate_async"


def rollout_pools(config: DictConfig) -> dict[str, DictConfig]:
    """The nodes with ``nnodes`` and ``n_gpus_per_node`` of GPUs that vLLM runs on, by key."""
    own = {"actor_rollout_ref.rollout": config.actor_rollout_ref.rollout} if is_apart(config) else {}
    shared = {"trainer": config.trainer} if not own or config.actor_rollout_ref.hybrid_engine else {}
    return shared | own


def attention_of(config: DictConfig) -> str:
    """The ``attn_implementation`` of what is trained."""
    return (model_node(config).get("override_config") or {}).get("attn_implementation", FLASH_ATTENTION)


def model_key(config: DictConfig) -> str:
    """The key of the start model."""
    return "actor_rollout_ref.model.path" if is_rl(config) else "model.path"


def model_node(config: DictConfig) -> DictConfig:
    """veRL's ``model`` node."""
    return config.actor_rollout_ref.model if is_rl(config) else config.model
