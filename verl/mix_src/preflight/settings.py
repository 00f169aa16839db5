"""The composed config: keys that are wrong or contradict each other."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from verl.trainer.ppo.utils import need_reference_policy
from verl.utils.config import omega_conf_to_dataclass, validate_config
from verl.utils.import_utils import load_class_from_fqn

from luffy.errors import InputError
from luffy.rewards.custom import load_reward
from verl.mix_src.advantage import ESTIMATOR
from verl.mix_src.preflight.problems import Check
from verl.mix_src.reward import reward_options
from verl.mix_src.rollout import AGENT_NAME, luffy_config

WORKER_EXTENSIONS = (
    "verl.mix_src.weight_sync.MixWorkerExtension",
    "verl.mix_src.cpu.vllm_worker.CpuWorkerExtension",
)


def _guidance(config: DictConfig) -> Iterator[str]:
    luffy, n = luffy_config(config), config.actor_rollout_ref.rollout.n
    luffy.guidance.check_group_size(n)
    needs_rollouts = luffy.advantage.baseline == "on_policy" or luffy.guidance.on_demand_below is not None
    if needs_rollouts and luffy.guidance.n_demonstrations >= n:
        yield (
            f"actor_rollout_ref.rollout.n={n} leaves no rollout beside luffy.guidance.n_demonstrations="
            f"{luffy.guidance.n_demonstrations}, but the advantage or the guidance needs one: raise n"
        )
    agent = config.actor_rollout_ref.rollout.agent
    if agent.default_agent_loop != AGENT_NAME:
        yield f"actor_rollout_ref.rollout.agent.default_agent_loop must be {AGENT_NAME}: it brings demonstrations in"


def _method(config: DictConfig) -> Iterator[str]:
    luffy, actor = luffy_config(config), config.actor_rollout_ref.actor
    if config.algorithm.adv_estimator != ESTIMATOR:
        yield (
            f"algorithm.adv_estimator={config.algorithm.adv_estimator} would leave demonstrations out of account; "
            f"keep {ESTIMATOR} and choose with luffy.advantage.*"
        )
    if actor.entropy_coeff != luffy.entropy.coefficient:
        yield f"actor_rollout_ref.actor.entropy_coeff={actor.entropy_coeff} has no effect; set luffy.entropy.coefficient"
    if actor.use_kl_loss != (luffy.objective.kl_coefficient > 0):
        yield (
            "set both or neither: actor_rollout_ref.actor.use_kl_loss=true (loads the reference model) and "
            f"luffy.objective.kl_coefficient > 0 (its weight; now {luffy.objective.kl_coefficient})"
        )
    if config.reward.reward_model.enable and not config.reward.custom_reward_function.path:
        yield (
            "reward.reward_model.enable=true loads a model that the verifier does not ask: give "
            "reward.custom_reward_function.path, which can, or leave it out"
        )
    if not config.trainer.use_v1:
        yield "trainer.use_v1=false is veRL's deprecated trainer, which this extension does not join; leave it true"


def _batches(config: DictConfig) -> Iterator[str]:
    """veRL cuts a rank's rows into micro-batches of one size, and says so at the first step only."""
    rollout, actor, prompts = config.actor_rollout_ref.rollout, config.actor_rollout_ref.actor, config.data.train_batch_size
    if prompts % actor.ppo_mini_batch_size:
        yield (
            f"data.train_batch_size={prompts} must be a multiple of actor_rollout_ref.actor.ppo_mini_batch_size={actor.ppo_mini_batch_size}"
        )
    gpus = config.trainer.nnodes * config.trainer.n_gpus_per_node
    ranks = max(1, gpus // OmegaConf.select(actor, "fsdp_config.ulysses_sequence_parallel_size", default=1))
    for key, dynamic, prompts_at_once, size in (
        ("actor.ppo_micro_batch_size_per_gpu", actor.use_dynamic_bsz, actor.ppo_mini_batch_size,
         actor.ppo_micro_batch_size_per_gpu),
        ("rollout.log_prob_micro_batch_size_per_gpu", rollout.log_prob_use_dynamic_bsz, prompts,
         rollout.log_prob_micro_batch_size_per_gpu),
    ):  # fmt: skip
        rows = prompts_at_once * rollout.n // ranks
        if size and not dynamic and rows % size:
            yield (
                f"actor_rollout_ref.{key}={size} must divide the {rows} rows of a rank ({prompts_at_once} prompts x "
                f"{rollout.n} rows / {ranks} ranks); or set actor_rollout_ref.actor.use_dynamic_bsz=true"
            )


def _worker_extension(config: DictConfig) -> Iterator[str]:
    """With veRL's own class weights would be sent to one socket and awaited at another, for ever."""
    key = "actor_rollout_ref.rollout.engine_kwargs.vllm.worker_extension_cls"
    name = OmegaConf.select(config, key)
    if name in WORKER_EXTENSIONS:
        return
    from verl.mix_src.weight_sync import MixWorkerExtension  # imports vLLM

    try:
        fits = issubclass(load_class_from_fqn(name or ""), MixWorkerExtension)
    except (ImportError, ValueError, AttributeError, TypeError):
        fits = False
    if not fits:
        yield f"{key}={name} would wait for weights at veRL's own socket; keep {WORKER_EXTENSIONS[0]}, or a subclass of it"


def _engines(config: DictConfig) -> Iterator[str]:
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    if actor.strategy not in ("fsdp", "fsdp2"):
        yield f"actor_rollout_ref.actor.strategy={actor.strategy}: this extension is tested with fsdp2 (and takes fsdp)"
    if rollout.name != "vllm":
        yield f"actor_rollout_ref.rollout.name={rollout.name}: demonstrations are brought in by way of vLLM's server; set vllm"
    gpus, replica = config.trainer.nnodes * config.trainer.n_gpus_per_node, rollout.tensor_model_parallel_size
    replica *= rollout.data_parallel_size * rollout.pipeline_model_parallel_size
    if gpus % replica:
        yield (
            f"{gpus} GPUs (trainer.nnodes x trainer.n_gpus_per_node) cannot be cut into replicas of {replica} "
            "(actor_rollout_ref.rollout.tensor_model_parallel_size x data_ x pipeline_): change one of them"
        )


def _rollout_correction(config: DictConfig) -> Iterator[str]:
    correction, where = config.algorithm.rollout_correction, "algorithm.rollout_correction"
    if correction.bypass_mode:
        yield (
            f"{where}.bypass_mode=true takes the sampler's log-probabilities for the old policy's, and nobody sampled a "
            "demonstration: leave it false"
        )
    for key in ("rollout_is", "rollout_rs"):
        if correction[key] and not config.actor_rollout_ref.rollout.calculate_log_probs:
            yield (
                f"{where}.{key}={correction[key]} has no effect without the sampler's log-probabilities: set "
                "actor_rollout_ref.rollout.calculate_log_probs=true"
            )


def _upstream(config: DictConfig) -> None:
    """veRL's own checks, which answer with a traceback."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it says that all is well
            omega_conf_to_dataclass(config.actor_rollout_ref.rollout)
            validate_config(config, need_reference_policy(config), use_critic=False)
    except (ValueError, AssertionError, TypeError, NotImplementedError, OmegaConfBaseException, HydraException) as error:
        raise InputError(f"veRL refuses this config: {' '.join(str(error.__cause__ or error).split())}") from error


def _reward(config: DictConfig) -> None:
    reward_options(config)
    custom = config.reward.custom_reward_function
    if custom.path:
        load_reward(custom.path, custom.name, custom.get("reward_kwargs"))


CHECKS: tuple[Check, ...] = (
    _guidance, _method, _engines, _worker_extension, _batches, _rollout_correction, _reward, _upstream
)  # fmt: skip
