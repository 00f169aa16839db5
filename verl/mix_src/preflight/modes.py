"""What ``mode=separate_async`` needs, all in one line: veRL would say one thing at a time, in a traceback, after Ray has started."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from omegaconf import DictConfig

from verl.mix_src.preflight.problems import Check

BACKEND_PACKAGES = {"nccl": "cupy", "nixl": "nixl", "mooncake": "mooncake", "kimi_ckpt_engine": "checkpoint_engine"}


def _separate_async(config: DictConfig) -> Iterator[str]:
    if config.trainer.v1.trainer_mode == "separate_async" and (missing := list(_missing(config))):
        yield f"mode=separate_async cannot run here: {'; '.join(missing)}"


def _missing(config: DictConfig) -> Iterator[str]:
    rollout, actor = config.actor_rollout_ref.rollout, config.actor_rollout_ref.actor
    steps, batch = config.trainer.v1.separate_async.parameter_sync_step, config.data.train_batch_size
    if batch != steps * actor.ppo_mini_batch_size:
        yield (
            f"data.train_batch_size={batch} must be trainer.v1.separate_async.parameter_sync_step={steps} times "
            f"actor_rollout_ref.actor.ppo_mini_batch_size={actor.ppo_mini_batch_size}"
        )
    for key in ("nnodes", "n_gpus_per_node"):
        if rollout[key] < 1:
            yield f"actor_rollout_ref.rollout.{key}={rollout[key]} must be above 0: the rollout has GPUs of its own"
    backend = rollout.checkpoint_engine.backend
    package = BACKEND_PACKAGES.get(backend, "")
    if config.trainer.device == "cpu":
        yield "no backend sends weights between CPU processes (profile=cpu): use mode=sync or mode=colocate_async"
    elif backend == "naive":
        yield "actor_rollout_ref.rollout.checkpoint_engine.backend=naive needs shared devices: set nccl"
    elif package and importlib.util.find_spec(package) is None:
        yield f"the package {package} is not installed, which the backend {backend} needs (for nccl: pip install cupy-cuda13x)"
    if config.reward.reward_model.enable and not config.reward.reward_model.enable_resource_pool:
        yield "reward.reward_model.enable_resource_pool=true is needed: the rollout never leaves its GPUs to a reward model"


CHECKS: tuple[Check, ...] = (_separate_async,)
