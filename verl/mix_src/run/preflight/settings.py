"""The composed config: keys that are wrong or contradict each other. A check imports what trains by itself: that takes seconds."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Iterator

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from verl.utils.import_utils import load_class_from_fqn

from luffy.errors import InputError
from luffy.rewards import load_reward
from luffy.schedules import is_on
from verl.mix_src.config import FLASH_ATTENTION, attention_of, is_apart, luffy_config, rollout_pools
from verl.mix_src.upstream import BACKEND_PACKAGES

WORKER_EXTENSIONS = ("verl.mix_src.rl.weight_sync.MixWorkerExtension", "verl.mix_src.rl.weight_sync.CpuWorkerExtension")
EACH_EPOCH = "after_each_epoch"
ULYSSES = [  # by which sequences are cut over ranks; a size of veRL's older key is copied to the newer one
    f"{part}.ulysses_sequence_parallel_size"
    for part in ("engine", *(f"actor_rollout_ref.{each}{below}" for each in ("actor", "ref") for below in ("", ".fsdp_config")))
]


def guidance(config: DictConfig) -> Iterator[str]:
    luffy, n = luffy_config(config), config.actor_rollout_ref.rollout.n
    luffy.guidance.check_group_size(n)
    needs_rollouts = luffy.advantage.baseline == "on_policy" or luffy.guidance.on_demand_below is not None
    if needs_rollouts and luffy.guidance.n_demonstrations >= n:
        yield (
            f"actor_rollout_ref.rollout.n={n} leaves no rollout beside luffy.guidance.n_demonstrations="
            f"{luffy.guidance.n_demonstrations}, but the advantage or the guidance needs one: raise n"
        )
    from verl.mix_src.rl.rollout import AGENT_NAME

    agent = config.actor_rollout_ref.rollout.agent
    if agent.default_agent_loop != AGENT_NAME:
        yield f"actor_rollout_ref.rollout.agent.default_agent_loop must be {AGENT_NAME}: it brings demonstrations in"


def method(config: DictConfig) -> Iterator[str]:
    luffy, actor, model = luffy_config(config), config.actor_rollout_ref.actor, config.actor_rollout_ref.model
    from verl.mix_src.rl.loss import ESTIMATOR

    if config.algorithm.adv_estimator != ESTIMATOR:
        yield (
            f"algorithm.adv_estimator={config.algorithm.adv_estimator} would leave demonstrations out of account; "
            f"keep {ESTIMATOR} and choose with luffy.advantage.*"
        )
    if actor.entropy_coeff != luffy.entropy.coefficient:
        yield f"actor_rollout_ref.actor.entropy_coeff={actor.entropy_coeff} has no effect; set luffy.entropy.coefficient"
    if luffy.objective.reads_teacher and not actor.use_kl_loss:
        yield "a teacher is loaded by veRL's reference worker: set actor_rollout_ref.actor.use_kl_loss=true"
    elif luffy.teacher.path and (model.lora_rank > 0 or model.lora.get("rank", 0) > 0 or model.lora_adapter_path):
        yield (
            "luffy.teacher.path has no effect with LoRA, where veRL takes the start model for the reference: train all weights "
            "(actor_rollout_ref.model.lora_rank=0), or leave the teacher to luffy.teacher.privileged"
        )
    elif actor.use_kl_loss != (is_on(luffy.objective.kl_coefficient) or luffy.objective.reads_teacher):
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


def store(config: DictConfig) -> Iterator[str]:
    """A store against the rest of the method, and against the sizes of a step."""
    luffy, actor = luffy_config(config), config.actor_rollout_ref.actor
    if luffy.store.admit == "nothing":
        return
    where, mode = f"luffy.store.admit={luffy.store.admit}", config.trainer.v1.trainer_mode
    if mode != "sync":
        yield f"{where} needs mode=sync (it is {mode}): what is kept, and when, depends on the order of steps"
    ranks = max(1, config.trainer.nnodes * config.trainer.n_gpus_per_node)
    luffy.store.check_batch(group_size=config.actor_rollout_ref.rollout.n, prompts=config.data.train_batch_size, rows_at_once=ranks)
    from verl.mix_src.rl.rollout import PlacedDataset

    if config.data.custom_cls.name != PlacedDataset.__name__:
        yield f"{where} names prompts by their number in the data, which {PlacedDataset.__name__} gives: leave data.custom_cls alone"
    if config.algorithm.filter_groups is not None and config.algorithm.filter_groups.enable:
        yield f"{where} observes every group of a step: leave algorithm.filter_groups.enable=false"
    if luffy.store.replays and luffy.guidance.demonstrations_in(config.actor_rollout_ref.rollout.n) >= config.actor_rollout_ref.rollout.n:
        yield f"{where} replaces a rollout of a group, and luffy.guidance.n_demonstrations leaves none: lower it"
    if luffy.store.admit == "unsolved":
        if luffy.guidance.n_demonstrations != 0:
            yield f"{where} waits for groups without a right row, and a demonstration is one: set luffy.guidance.n_demonstrations=0"
        if actor.optim.lr_scheduler_type != "constant" or actor.optim.lr_warmup_steps > 0:
            yield (
                f"{where} makes updates that no step counts, and each moves the learning rate's schedule on: set "
                "actor_rollout_ref.actor.optim.lr_scheduler_type=constant and lr_warmup_steps=0"
            )


def stages(config: DictConfig) -> Iterator[str]:
    """Rounds of a group need each verdict before the next."""
    stages, reward = luffy_config(config).stages, config.reward.reward_model
    if stages.mode != "none" and reward.enable and not reward.enable_resource_pool:
        yield (
            f"luffy.stages.mode={stages.mode} needs each row's reward before the next is sampled, and the reward model takes the devices "
            "in turn: set reward.reward_model.enable_resource_pool=true"
        )


def batches(config: DictConfig) -> Iterator[str]:
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


def worker_extension(config: DictConfig) -> Iterator[str]:
    """With veRL's own class weights would be sent to one socket and awaited at another, for ever."""
    key = "actor_rollout_ref.rollout.engine_kwargs.vllm.worker_extension_cls"
    name = OmegaConf.select(config, key)
    if name in WORKER_EXTENSIONS:
        return
    from verl.mix_src.rl.weight_sync import MixWorkerExtension  # imports vLLM

    try:
        fits = issubclass(load_class_from_fqn(name or ""), MixWorkerExtension)
    except (ImportError, ValueError, AttributeError, TypeError):
        fits = False
    if not fits:
        yield f"{key}={name} would wait for weights at veRL's own socket; keep {WORKER_EXTENSIONS[0]}, or a subclass of it"


def engines(config: DictConfig) -> Iterator[str]:
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    if actor.strategy not in ("fsdp", "fsdp2"):
        yield f"actor_rollout_ref.actor.strategy={actor.strategy}: this extension is tested with fsdp2 (and takes fsdp)"
    if rollout.name != "vllm":
        yield f"actor_rollout_ref.rollout.name={rollout.name}: demonstrations are brought in by way of vLLM's server; set vllm"
    replica = rollout.tensor_model_parallel_size * rollout.data_parallel_size * rollout.pipeline_model_parallel_size
    for key, pool in rollout_pools(config).items():
        if (gpus := pool.nnodes * pool.n_gpus_per_node) % replica:
            yield (
                f"{gpus} GPUs ({key}.nnodes x {key}.n_gpus_per_node) cannot be cut into replicas of {replica} "
                "(actor_rollout_ref.rollout.tensor_model_parallel_size x data_ x pipeline_): change one of them"
            )


def sequence_parallel(config: DictConfig) -> Iterator[str]:
    """veRL lets the ranks of a sequence exchange what they hold in flash-attn alone; others would see their own part, in silence."""
    attention = attention_of(config)
    above = {key: size for key in ULYSSES if (size := OmegaConf.select(config, key)) and size > 1}
    if attention != FLASH_ATTENTION:
        yield from (
            f"{key}={size} needs flash-attn, and attn_implementation is {attention}: install it, or set 1" for key, size in above.items()
        )


def rollout_correction(config: DictConfig) -> Iterator[str]:
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


def upstream(config: DictConfig) -> None:
    """veRL's own checks, which answer with a traceback."""
    from verl.trainer.ppo.utils import need_reference_policy
    from verl.utils.config import omega_conf_to_dataclass, validate_config

    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it says that all is well
            omega_conf_to_dataclass(config.actor_rollout_ref.rollout)
            validate_config(config, need_reference_policy(config), use_critic=False)
    except (ValueError, AssertionError, TypeError, NotImplementedError, OmegaConfBaseException, HydraException) as error:
        raise InputError(f"veRL refuses this config: {' '.join(str(error.__cause__ or error).split())}") from error


def reward(config: DictConfig) -> None:
    from verl.mix_src.rl.reward import reward_options

    reward_options(config)
    custom = config.reward.custom_reward_function
    if custom.path:
        load_reward(custom.path, custom.name, custom.get("reward_kwargs"))


def separate_async(config: DictConfig) -> Iterator[str]:
    if is_apart(config) and (missing := list(_separate_async_lacks(config))):
        yield f"mode=separate_async cannot run here: {'; '.join(missing)}"


def _separate_async_lacks(config: DictConfig) -> Iterator[str]:
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


def sft_batches(config: DictConfig) -> Iterator[str]:
    """Ranks, batches and micro-batches of supervised fine-tuning."""
    data, ranks = config.data, config.trainer.n_gpus_per_node
    batch, micro = data.train_batch_size, data.micro_batch_size_per_gpu
    if config.trainer.nnodes != 1:
        yield (
            f"trainer.nnodes={config.trainer.nnodes}: this command starts one node; on several, write the config by this command with "
            "--cfg job --resolve > CONFIG.yaml, and run torchrun -m verl.mix_src.sft.trainer CONFIG.yaml on each"
        )
    if batch % ranks:
        yield f"data.train_batch_size={batch} must be a multiple of trainer.n_gpus_per_node={ranks}"
    if not data.use_dynamic_bsz and (batch // ranks) % micro:
        yield f"data.micro_batch_size_per_gpu={micro} must divide the {batch // ranks} rows of a rank; or set data.use_dynamic_bsz=true"
    if data.use_dynamic_bsz and data.max_token_len_per_gpu < data.max_length:
        yield f"data.max_token_len_per_gpu={data.max_token_len_per_gpu} must hold one sample of data.max_length={data.max_length} tokens"
    if data.pad_mode != "no_padding":
        yield f"data.pad_mode={data.pad_mode}: veRL's engine takes no_padding alone"


def sft_checkpoints(config: DictConfig) -> Iterator[str]:
    """When supervised fine-tuning saves, and with it answers held-out problems."""
    frequency = config.trainer.save_freq
    if not isinstance(frequency, int) and frequency != EACH_EPOCH:
        yield f"trainer.save_freq={frequency} must be a number of steps or {EACH_EPOCH}"
    if frequency == 0:
        yield "trainer.save_freq=0: give a number of steps, -1 for the last step alone, or after_each_epoch"
    if "hf_model" not in config.checkpoint.save_contents:
        yield "checkpoint.save_contents must have hf_model: held-out problems are answered from it"
    if config.trainer.test_freq != -1:
        yield "trainer.test_freq has no effect here: held-out problems are answered at every checkpoint (trainer.save_freq)"
