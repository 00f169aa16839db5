"""The extension, and the devices of this machine."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Iterator

import torch
from omegaconf import DictConfig

from luffy.errors import InputError
from verl.mix_src import VERL_VERSION
from verl.mix_src.nodes import joins_a_cluster
from verl.mix_src.preflight.problems import Check

PLUGIN = "verl.mix_src.register"


def check_extension() -> None:
    """Raise InputError unless veRL is of the version that this extension is for, and has loaded it by itself."""
    version = importlib.metadata.version("verl")
    if version != VERL_VERSION:
        raise InputError(f"veRL {version} is installed; this extension is for {VERL_VERSION}: pip install verl=={VERL_VERSION}")
    if not getattr(sys.modules.get(PLUGIN), "LOADED", False):
        raise InputError(
            "veRL did not load its plugin 'mix_src': install the project (pip install -e .) and leave VERL_USE_EXTERNAL_PLUGINS unset"
        )


def _gpus(config: DictConfig) -> Iterator[str]:
    if config.trainer.device == "cpu" or joins_a_cluster():
        return
    wanted, found = config.trainer.n_gpus_per_node, torch.cuda.device_count()
    if config.trainer.v1.trainer_mode == "separate_async":
        wanted += config.actor_rollout_ref.rollout.nnodes * config.actor_rollout_ref.rollout.n_gpus_per_node
    if wanted > found:
        yield (
            f"trainer.n_gpus_per_node={wanted} but this machine has {found} GPUs; lower it, join a Ray cluster "
            "(RAY_ADDRESS), or run the embedded example with profile=cpu"
        )


def _attention(config: DictConfig) -> Iterator[str]:
    asked = config.actor_rollout_ref.model.override_config.get("attn_implementation", "flash_attention_2")
    if config.trainer.device == "cpu" or asked != "flash_attention_2":
        return
    try:
        importlib.import_module("flash_attn")
    except (ImportError, OSError) as error:  # OSError: built for another CUDA or torch
        yield (
            f"flash-attn, which veRL asks for, cannot be imported ({str(error).splitlines()[0]}): install it, or set "
            "+actor_rollout_ref.model.override_config.attn_implementation=sdpa actor_rollout_ref.model.use_fused_kernels=true"
        )


CHECKS: tuple[Check, ...] = (_gpus, _attention)
