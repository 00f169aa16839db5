"""Disk and GPU memory: what the run will need, beside what there is. Estimates, from the number of the model's parameters.

For each parameter veRL's FSDP2 keeps a weight and Adam's two moments in fp32 (12 bytes, cut over all GPUs) beside vLLM's share; a
checkpoint holds the same, and as much again for the weights of an exported model. Not counted are activations, while vLLM sleeps.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from luffy.errors import InputError
from luffy.evaluation.model_files import find_model
from luffy.evaluation.parallel_plan import visible_gpus
from verl.mix_src.nodes import joins_a_cluster
from verl.mix_src.preflight.problems import Check

GIB = 2**30
BYTES = {"model": 4, "optimizer": 8, "hf_model": 4}  # of a parameter, by what actor.checkpoint.save_contents names
CONTEXT = 3 * GIB  # of CUDA and NCCL, on each GPU
BYTES_OF_DTYPE = {"float32": 4, "float64": 8}  # others: 2


@dataclass(frozen=True, kw_only=True)
class Need:
    """Something of which a run needs so much and the machine has so much, in bytes.

    Attributes:
        name: where.
        needed: bytes; an estimate.
        there: bytes; None where nobody knows.
        parts: what the needed bytes are for.
        instead: what to do where they are not there.
    """

    name: str
    needed: float
    there: float | None
    parts: str
    instead: str

    def __str__(self) -> str:
        there = "unknown here" if self.there is None else f"{self.there / GIB:.1f} GiB there"
        return f"about {self.needed / GIB:.1f} GiB needed ({self.parts}), {there}"

    @property
    def is_met(self) -> bool:
        """Whether there is enough, as far as known."""
        return self.there is None or self.needed <= self.there


def needs(config: DictConfig) -> list[Need]:
    """What the run needs of disk and of each GPU's memory; nothing where the model is not there (others say so)."""
    path = str(config.actor_rollout_ref.model.path)
    try:
        model = find_model(path) if Path(path).is_dir() else None
    except InputError:
        model = None
    if model is None or not model.weight_bytes:
        return []
    parameters = model.weight_bytes / BYTES_OF_DTYPE.get(model.dtype, 2)
    found = [_disk(config, parameters)]
    return found if config.trainer.device == "cpu" else [*found, _gpu(config, parameters)]


def _disk(config: DictConfig, parameters: float) -> Need:
    trainer, contents = config.trainer, config.actor_rollout_ref.actor.checkpoint.save_contents
    one = parameters * sum(BYTES.get(each, 0) for each in contents)
    steps = trainer.total_training_steps or math.inf  # epochs count instead: at least as many as are kept
    saves = steps / trainer.save_freq if trainer.save_freq > 0 else 0
    kept = min(trainer.max_actor_ckpt_to_keep or saves, saves)
    kept = 1 if math.isinf(kept) else math.ceil(kept)
    best = int(saves > kept and trainer.test_freq > 0)
    return Need(
        name="disk",
        needed=(kept + best) * one,
        there=shutil.disk_usage(_existing(Path(trainer.default_local_dir))).free,
        parts=f"{kept} checkpoints{' and the best' if best else ''} of {one / GIB:.1f}",
        instead="free some, choose another trainer.default_local_dir, or keep less (trainer.max_actor_ckpt_to_keep, "
        "actor_rollout_ref.actor.checkpoint.save_contents)",
    )


def _gpu(config: DictConfig, parameters: float) -> Need:
    rollout, engine, trainer = config.actor_rollout_ref.rollout, config.actor_rollout_ref.actor.fsdp_config, config.trainer
    there = None if joins_a_cluster() else min((gpu.memory for gpu in visible_gpus()), default=0) or None
    on_gpu = 4 * (not engine.param_offload) + 8 * (not engine.optimizer_offload)
    state = on_gpu * parameters / max(1, trainer.nnodes * trainer.n_gpus_per_node)
    bucket = rollout.checkpoint_engine.update_weights_bucket_megabytes * 2**20
    share = rollout.gpu_memory_utilization
    return Need(
        name="GPU memory",
        needed=state + bucket + CONTEXT,
        there=None if there is None else (1 - share) * there,
        parts=f"beside vLLM's {share:.0%} of a GPU: weights and optimizer {state / GIB:.1f}, contexts and weight sync "
        f"{(bucket + CONTEXT) / GIB:.1f}",
        instead="lower actor_rollout_ref.rollout.gpu_memory_utilization, use more GPUs, or offload "
        "(actor_rollout_ref.actor.fsdp_config.param_offload, optimizer_offload)",
    )


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    return next(each for each in (folder, *folder.parents) if each.is_dir())


def _resources(config: DictConfig) -> Iterator[str]:
    for need in needs(config):
        if not need.is_met:
            yield f"{need.name}: {need}: {need.instead}"


CHECKS: tuple[Check, ...] = (_resources,)
