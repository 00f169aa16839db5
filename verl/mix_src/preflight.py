"""Everything that can be known to be wrong before Ray starts, each as one line that says what to do."""

from __future__ import annotations

import importlib.metadata
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from luffy.config import LuffyConfig
from luffy.errors import InputError
from luffy.rewards.custom import load_reward
from verl.mix_src import VERL_VERSION
from verl.mix_src.advantage import ESTIMATOR
from verl.mix_src.reward import reward_options
from verl.mix_src.rollout import AGENT_NAME, luffy_config
from verl.mix_src.sole_run import SOLE_RUN

PLUGIN = "verl.mix_src.register"
RAY_ADDRESS_FILE = Path("/tmp/ray/ray_current_cluster")  # where Ray notes a cluster that was started by hand


def check_overrides(overrides: Sequence[str]) -> None:
    """Check Hydra overrides by name, before Hydra composes.

    Raises:
        InputError: on an option of LUFFY's released code (with the new key) or an unknown key of the ``luffy`` node
            (with the nearest known one).
    """
    from luffy.released_options import explain

    for override in overrides:
        if message := explain(override):
            raise InputError(message)
        key, _, _ = override.lstrip("+~").partition("=")
        if key.startswith("luffy."):
            LuffyConfig.check_key(key)


def check_extension() -> None:
    """Raise InputError unless veRL is of the version that this extension is for, and has loaded it by itself."""
    version = importlib.metadata.version("verl")
    if version != VERL_VERSION:
        raise InputError(f"veRL {version} is installed; this extension is for {VERL_VERSION}: pip install verl=={VERL_VERSION}")
    if not getattr(sys.modules.get(PLUGIN), "LOADED", False):
        raise InputError(
            "veRL did not load its plugin 'mix_src': install the project (pip install -e .) and leave "
            "VERL_USE_EXTERNAL_PLUGINS unset"
        )


def check_config(config: DictConfig) -> None:
    """Raise InputError where keys of the composed config are wrong or contradict each other."""
    luffy = luffy_config(config)
    rollout, actor = config.actor_rollout_ref.rollout, config.actor_rollout_ref.actor
    luffy.guidance.check_group_size(rollout.n)
    needs_rollouts = luffy.advantage.baseline == "on_policy" or luffy.guidance.on_demand_below is not None
    if needs_rollouts and luffy.guidance.n_demonstrations >= rollout.n:
        raise InputError(
            f"actor_rollout_ref.rollout.n={rollout.n} leaves no rollout beside luffy.guidance.n_demonstrations="
            f"{luffy.guidance.n_demonstrations}, but the advantage or the guidance needs one: raise n"
        )
    if config.algorithm.adv_estimator != ESTIMATOR:
        raise InputError(
            f"algorithm.adv_estimator={config.algorithm.adv_estimator} would leave demonstrations out of account; "
            f"keep {ESTIMATOR} and choose with luffy.advantage.*"
        )
    if rollout.agent.default_agent_loop != AGENT_NAME:
        raise InputError(f"actor_rollout_ref.rollout.agent.default_agent_loop must be {AGENT_NAME}: it brings demonstrations in")
    if actor.entropy_coeff != luffy.entropy.coefficient:
        raise InputError(
            f"actor_rollout_ref.actor.entropy_coeff={actor.entropy_coeff} has no effect; set luffy.entropy.coefficient"
        )
    if actor.use_kl_loss != (luffy.objective.kl_coefficient > 0):
        raise InputError(
            "set both or neither: actor_rollout_ref.actor.use_kl_loss=true (loads the reference model) and "
            f"luffy.objective.kl_coefficient > 0 (its weight; now {luffy.objective.kl_coefficient})"
        )
    if config.data.train_batch_size % actor.ppo_mini_batch_size:
        raise InputError(
            f"data.train_batch_size={config.data.train_batch_size} must be a multiple of "
            f"actor_rollout_ref.actor.ppo_mini_batch_size={actor.ppo_mini_batch_size}"
        )
    _check_micro_batches(config)
    reward_options(config)
    if custom := config.reward.custom_reward_function.path:
        load_reward(custom, config.reward.custom_reward_function.name)
    if not config.trainer.use_v1:
        raise InputError("trainer.use_v1=false is veRL's deprecated trainer, which this extension does not join; leave it true")


def _check_micro_batches(config: DictConfig) -> None:
    """veRL cuts a rank's rows into micro-batches of one size, and says so at the first step only."""
    rollout, actor = config.actor_rollout_ref.rollout, config.actor_rollout_ref.actor
    gpus = config.trainer.nnodes * config.trainer.n_gpus_per_node
    ranks = max(1, gpus // OmegaConf.select(actor, "fsdp_config.ulysses_sequence_parallel_size", default=1))
    for key, dynamic, prompts, size in (
        ("actor.ppo_micro_batch_size_per_gpu", actor.use_dynamic_bsz, actor.ppo_mini_batch_size,
         actor.ppo_micro_batch_size_per_gpu),
        ("rollout.log_prob_micro_batch_size_per_gpu", rollout.log_prob_use_dynamic_bsz, config.data.train_batch_size,
         rollout.log_prob_micro_batch_size_per_gpu),
    ):  # fmt: skip
        rows = prompts * rollout.n // ranks
        if size and not dynamic and rows % size:
            raise InputError(
                f"actor_rollout_ref.{key}={size} must divide the {rows} rows of a rank ({prompts} prompts x {rollout.n} "
                f"rows / {ranks} ranks); or set actor_rollout_ref.actor.use_dynamic_bsz=true"
            )


def check_machine(config: DictConfig) -> None:
    """Raise InputError where this machine lacks what the config asks for, or something old is in the way."""
    for problem in machine_problems(config):
        raise InputError(problem)


def machine_problems(config: DictConfig) -> Iterator[str]:
    """What is missing or in the way on this machine: files, model, GPUs, Ray. Each a line with what to do."""
    yield from _first_error(_check_files, config)
    yield from _first_error(_check_model, config)
    if os.environ.get("RAY_ADDRESS"):
        yield from _first_error(_check_cluster, os.environ["RAY_ADDRESS"])
    else:
        yield from _first_error(_check_gpus, config)
        yield from _first_error(_check_no_ray, config)


def _first_error(check: Any, *arguments: Any) -> Iterator[str]:
    try:
        check(*arguments)
    except InputError as error:
        yield str(error)


def _check_files(config: DictConfig) -> None:
    from luffy.data.check import check_layout
    from luffy.data.columnar import row_count

    guided = luffy_config(config).guidance.n_demonstrations != 0
    for key, kind in (("train_files", "train" if guided else "eval"), ("val_files", "eval")):
        files = config.data[key]
        files = [files] if isinstance(files, str) else list(files)
        for file in files:
            check_layout(file, kind)
        rows, batch = sum(row_count(Path(file)) for file in files), config.data.train_batch_size
        if key == "train_files" and rows < batch:
            raise InputError(f"data.{key} has {rows} rows, fewer than data.train_batch_size={batch}: no step is possible")


def _check_model(config: DictConfig) -> None:
    from transformers import AutoTokenizer

    path = str(config.actor_rollout_ref.model.path)
    if not Path(path).is_dir() and (path.count("/") != 1 or path.startswith((".", "/", "outputs/", "models/"))):
        raise InputError(f"actor_rollout_ref.model.path={path} is not a folder; give a model folder or a hub name")
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=config.data.trust_remote_code)
    except (OSError, ValueError) as error:
        raise InputError(f"no tokenizer at actor_rollout_ref.model.path={path}: {str(error).splitlines()[0]}") from error
    if tokenizer.eos_token_id is None:
        raise InputError(f"the tokenizer of {path} has no EOS token, so no response could end: set eos_token in its tokenizer_config.json")
    if not tokenizer.chat_template:
        raise InputError(f"the tokenizer of {path} has no chat template: add chat_template.jinja to the model folder")


def _check_gpus(config: DictConfig) -> None:
    if config.trainer.device == "cpu":
        return
    wanted, found = config.trainer.n_gpus_per_node, torch.cuda.device_count()
    if wanted > found:
        raise InputError(
            f"trainer.n_gpus_per_node={wanted} but this machine has {found} GPUs; lower it, join a Ray cluster "
            "(RAY_ADDRESS), or run the embedded example with profile=cpu"
        )


def _check_no_ray(config: DictConfig) -> None:
    if not SOLE_RUN.is_free():
        raise InputError(
            "another training runs on this machine, and veRL's weight sync mixes up two local Ray clusters: wait for it, or "
            "let both join one cluster (ray start --head, then RAY_ADDRESS)"
        )
    if RAY_ADDRESS_FILE.is_file() and _answers(address := RAY_ADDRESS_FILE.read_text().strip()):
        raise InputError(f"a Ray session runs at {address} already: end it (ray stop), or join it (RAY_ADDRESS={address})")
    for key, value in config.ray_kwargs.get("ray_init", {}).items():
        if key.endswith("port") and value and _answers(f"127.0.0.1:{value}"):
            raise InputError(f"port {value} (ray_kwargs.ray_init.{key}) is taken: end what uses it or choose another")


def _check_cluster(address: str) -> None:
    if address != "auto" and "://" not in address and not _answers(address):
        raise InputError(f"no Ray cluster answers at RAY_ADDRESS={address}: start it (ray start --head) or unset RAY_ADDRESS")


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host or "127.0.0.1", int(port)), timeout=2):
            return True
    except (OSError, ValueError):
        return False
