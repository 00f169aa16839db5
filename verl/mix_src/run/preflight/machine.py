"""This machine: the extension, devices, disk and memory, the run's folder, and the Ray cluster that it starts or joins.

What a run needs of disk and GPU memory are estimates, from the number of the model's parameters: for each parameter veRL's FSDP2 keeps a
weight and Adam's two moments in fp32 (12 bytes, cut over all GPUs) beside vLLM's share; a checkpoint holds the same, and as much
again for the weights of an exported model. Not counted are activations, while vLLM sleeps.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import math
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig

from luffy.errors import InputError
from luffy.evaluation.gpus import visible_gpus
from luffy.models import find_model
from verl.mix_src import upstream
from verl.mix_src.config import FLASH_ATTENTION, attention_of, is_apart, is_rl
from verl.mix_src.run.folder import folder_of_its_own
from verl.mix_src.run.nodes import joins_a_cluster

GIB = 2**30
BYTES = {"model": 4, "optimizer": 8, "hf_model": 4}  # of a parameter, by what actor.checkpoint.save_contents names
CONTEXT = 3 * GIB  # of CUDA and NCCL, on each GPU
BYTES_OF_DTYPE = {"float32": 4, "float64": 8}  # others: 2


def check_extension() -> None:
    """Raise InputError unless veRL is of the version that this extension is for, and has loaded it by itself."""
    version, wanted = importlib.metadata.version("verl"), upstream.VERL_VERSION
    if version != wanted:
        raise InputError(f"veRL {version} is installed; this extension is for {wanted}: pip install verl=={wanted}")
    if not getattr(sys.modules.get(upstream.PLUGIN), "LOADED", False):
        raise InputError(
            "veRL did not load its plugin 'mix_src': install the project (pip install -e .) and leave VERL_USE_EXTERNAL_PLUGINS unset"
        )


def gpus(config: DictConfig) -> Iterator[str]:
    """As many as the run wants of this machine."""
    if config.trainer.device == "cpu" or (is_rl(config) and joins_a_cluster()):
        return
    wanted, found = config.trainer.n_gpus_per_node, torch.cuda.device_count()
    if is_apart(config):
        wanted += config.actor_rollout_ref.rollout.nnodes * config.actor_rollout_ref.rollout.n_gpus_per_node
    if wanted > found:
        join = "join a Ray cluster (RAY_ADDRESS), " if is_rl(config) else ""
        yield f"trainer.n_gpus_per_node={wanted} but this machine has {found} GPUs; lower it, {join}or run the embedded example with profile=cpu"


def attention(config: DictConfig) -> Iterator[str]:
    if config.trainer.device == "cpu" or attention_of(config) != FLASH_ATTENTION:
        return
    try:
        importlib.import_module("flash_attn")
    except (ImportError, OSError) as error:  # OSError: built for another CUDA or torch
        yield f"flash-attn, which veRL asks for, cannot be imported ({str(error).splitlines()[0]}): install it, or set attention=sdpa"


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
    found = [disk(config, parameters)]
    return found if config.trainer.device == "cpu" else [*found, _gpu(config, parameters)]


def disk(config: DictConfig, parameters: float) -> Need:
    """Of checkpoints, which is most of it."""
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


def resources(config: DictConfig) -> Iterator[str]:
    for need in needs(config):
        if not need.is_met:
            yield f"{need.name}: {need}: {need.instead}"


def folder(config: DictConfig) -> None:
    if (folder := Path(config.trainer.default_local_dir)).is_dir():
        with folder_of_its_own(folder):
            pass


def own_cluster(config: DictConfig) -> Iterator[str]:
    if joins_a_cluster():
        return
    if (address := noted_cluster()) and _answers(address):
        yield f"a Ray session runs at {address} already: end it (ray stop), or join it (RAY_ADDRESS={address})"
    for key, value in config.ray_kwargs.get("ray_init", {}).items():
        if key.endswith("port") and value and _answers(f"127.0.0.1:{value}"):
            yield f"port {value} (ray_kwargs.ray_init.{key}) is taken: end what uses it or choose another"
    if config.trainer.nnodes > 1:
        yield (f"trainer.nnodes={config.trainer.nnodes} needs a Ray cluster of that many nodes: start it (ray start) and set RAY_ADDRESS")


def noted_cluster() -> str | None:
    """The address of a Ray cluster that this user has started by hand here; those of others are no concern of a run."""
    note = Path(os.environ.get("RAY_TMPDIR", "/tmp"), upstream.RAY_ADDRESS_FILE)
    try:
        return note.read_text().strip() if note.stat().st_uid == os.getuid() else None
    except OSError:
        return None


def joined_cluster(config: DictConfig) -> Iterator[str]:
    if not joins_a_cluster():
        return
    address = os.environ["RAY_ADDRESS"]
    if "://" in address:
        yield f"RAY_ADDRESS={address} is a client's address: start the run on a machine of the cluster, with RAY_ADDRESS=HEAD:6379"
    elif address != "auto" and not _answers(address):
        yield f"no Ray cluster answers at RAY_ADDRESS={address}: start it (ray start --head) or unset RAY_ADDRESS"


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host or "127.0.0.1", int(port)), timeout=2):
            return True
    except (OSError, ValueError):
        return False
