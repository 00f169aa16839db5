"""A config as the arithmetic of :mod:`luffy.plan` sees it."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil
from omegaconf import DictConfig

from luffy.command_line import NumberFrom0, PositiveNumber, option
from luffy.errors import InputError
from luffy.evaluation.gpus import visible_gpus
from luffy.plan import GIB, GPUS, Device, Layout, Parts, Shape, Work, cache_tokens, find_device, memory, named_shape, short_of
from luffy.vllm_cpu import ENVIRONMENT
from verl.mix_src.config import FLASH_ATTENTION, attention_of, luffy_config, rollout_pools
from verl.mix_src.rl.second_pass import second_pass_for

PAPER_GPU = "A100-80GB"
PROCESSES = 5.6 * GIB  # of a run's processes on a CPU beside tensors (docs/performance.md)
FORKED = 3.4 * GIB  # the same where they share their imports
PROMPT, RESPONSE, DEMONSTRATION = 0.25, 0.25, 0.5  # of their budgets, where nobody says how long rows are in the mean


@dataclass(frozen=True, kw_only=True)
class Command:
    """The plan's own flags; everything else is an override, as for a training."""

    overrides: tuple[str, ...] = option((), "as for a training: profile=gpu experiment=luffy KEY=VALUE", positional=True, nargs="*")
    gpu: str | None = option(None, f"of {', '.join(GPUS)}; without it this machine's, or else the paper's {PAPER_GPU}")
    prompt_tokens: PositiveNumber | None = option(None, "mean length of a prompt; without it a quarter of data.max_prompt_length")
    response_tokens: PositiveNumber | None = option(None, "mean length of a rollout; without it a quarter of data.max_response_length")
    demonstration_tokens: PositiveNumber | None = option(None, "mean length of a demonstration; without it half of that budget")
    validation_rows: NumberFrom0 | None = option(None, "answers of one validation; without it the rows of data.val_files")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A config as the arithmetic sees it.

    Attributes:
        rollout_gpus: on which vLLM runs.
        assumed: whether the mean lengths are guesses.
    """

    config: DictConfig
    shape: Shape
    device: Device
    layout: Layout
    work: Work
    rollout_gpus: int
    assumed: bool

    def phases(self, layout: Layout | None = None) -> dict[str, Parts]:
        """Bytes of a GPU by phase and part, of this layout or another."""
        return memory(self.shape, layout or self.layout, self.device)

    def fits(self, layout: Layout) -> bool:
        """Whether every phase does, and a whole row into the key-value cache."""
        room = layout.share == 0 or cache_tokens(self.shape, layout, self.device.memory) >= layout.row_tokens
        return room and not short_of(self.phases(layout), self.device.memory)


def find_shape(path: str) -> Shape:
    """Of a model folder's ``config.json``, or of a built-in model by its name.

    Raises:
        InputError: where there is neither.
    """
    file = Path(path).expanduser() / "config.json"
    if file.is_file():
        try:
            return Shape.from_config(json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, KeyError) as error:
            raise InputError(f"{file}: not a model's configuration ({error})") from error
    if shape := named_shape(path):
        return shape
    raise InputError(
        f"actor_rollout_ref.model.path={path}: no config.json there, and no shape of that name is built in; give a folder with the model's "
        "config.json (its weights are not needed)"
    )


def choose_device(name: str | None, config: DictConfig) -> Device:
    """The GPU that was named, or this machine's, or the paper's; on a CPU this machine.

    Raises:
        InputError: where nothing is known of the named one.
    """
    if config.trainer.device == "cpu":
        return Device(name="this machine", memory=float(psutil.virtual_memory().total), flops=0.0, bandwidth=0.0, source="the system")
    if name is None:
        here = _driver_name()
        return find_device(here) or GPUS[PAPER_GPU]
    if device := find_device(name):
        return device
    raise InputError(f"--gpu {name}: not in the table; take one of {', '.join(GPUS)}")


def _driver_name() -> str:
    if not visible_gpus():
        return ""
    answer = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, check=False)
    return answer.stdout.partition("\n")[0]


def read_layout(config: DictConfig) -> Layout:
    """What the memory of a run depends on."""
    actor, rollout, model, trainer = (*(config.actor_rollout_ref[each] for each in ("actor", "rollout", "model")), config.trainer)
    engine, on_cpu = actor.fsdp_config, trainer.device == "cpu"
    ranks = trainer.nnodes * trainer.n_gpus_per_node
    row = config.data.max_prompt_length + config.data.max_response_length
    rows = config.data.train_batch_size * rollout.n // ranks
    attention = attention_of(config)
    packed = bool(model.use_remove_padding) and attention == "sdpa"
    update = actor.ppo_max_token_len_per_gpu if actor.use_dynamic_bsz else row * (actor.ppo_micro_batch_size_per_gpu or 1)
    forward = rollout.log_prob_max_token_len_per_gpu if rollout.log_prob_use_dynamic_bsz else row * (
        rollout.log_prob_micro_batch_size_per_gpu or 1)  # fmt: skip
    precision = (engine.get("mixed_precision") or {}).get("param_dtype", "bf16")
    return Layout(
        gpus=engine.fsdp_size if engine.fsdp_size > 0 else ranks,
        tensor_parallel=rollout.tensor_model_parallel_size,
        share=0.0 if on_cpu or "trainer" not in rollout_pools(config) else rollout.gpu_memory_utilization,
        number=4 if precision in ("fp32", "float32") else 2,
        rollout_number=4 if rollout.dtype == "float32" else 2,
        update_tokens=min(update, row * rows),
        log_prob_tokens=min(forward, row * rows),
        row_tokens=row,
        checkpointing=bool(model.enable_gradient_checkpointing),
        repeats_keys=attention != FLASH_ATTENTION,
        mask=3 if packed else 0,
        fused=bool(model.use_fused_kernels),
        entropy=bool(actor.calculate_entropy) or actor.entropy_coeff != 0,
        compiled=bool(engine.use_torch_compile) and not on_cpu,
        offload_weights=bool(engine.param_offload),
        offload_moments=bool(engine.optimizer_offload),
        bucket=rollout.checkpoint_engine.update_weights_bucket_megabytes * 2**20,
        reference=_has_reference(config),
        reference_stays=on_cpu,
        key_value_bytes=_cpu_cache() if on_cpu else 0.0,
        batched_tokens=rollout.max_num_batched_tokens,
        sequences=min(rollout.max_num_seqs, config.data.train_batch_size * rollout.n),
        **({"overhead": FORKED if luffy_config(config).run.fork_workers else PROCESSES, "sleeps": False} if on_cpu else {}),
    )


def _cpu_cache() -> float:
    name = "VLLM_CPU_KVCACHE_SPACE"
    return float(os.environ.get(name, ENVIRONMENT[name])) * GIB


def _has_reference(config: DictConfig) -> bool:
    asked = config.algorithm.get("use_kl_in_reward", False) or config.actor_rollout_ref.actor.use_kl_loss
    return bool(asked or luffy_config(config).teacher.path)


def read_work(config: DictConfig, command: Command) -> Work:
    """The rows of one step."""
    data, group = config.data, config.actor_rollout_ref.rollout.n
    return Work(
        prompts=data.train_batch_size,
        group=group,
        demonstrations=luffy_config(config).guidance.demonstrations_in(group),
        prompt=command.prompt_tokens or PROMPT * data.max_prompt_length,
        response=command.response_tokens or RESPONSE * data.max_response_length,
        demonstration=command.demonstration_tokens or DEMONSTRATION * data.max_response_length,
        longest=data.max_response_length,
        old_pass=_second_passes(config),
        reference=_has_reference(config),
        checkpointing=bool(config.actor_rollout_ref.model.enable_gradient_checkpointing),
    )


def _second_passes(config: DictConfig) -> float:
    """Share of the rows that go through a forward pass before the first update; that update's own tells of its rows."""
    if second_pass_for(config, luffy_config(config)):
        return 1.0
    return max(0.0, 1 - config.actor_rollout_ref.actor.ppo_mini_batch_size / config.data.train_batch_size)


def read_plan(config: DictConfig, command: Command) -> Plan:
    """All of it."""
    return Plan(
        config=config,
        shape=find_shape(str(config.actor_rollout_ref.model.path)),
        device=choose_device(command.gpu, config),
        layout=read_layout(config),
        work=read_work(config, command),
        rollout_gpus=sum(pool.nnodes * pool.n_gpus_per_node for pool in rollout_pools(config).values()),
        assumed=None in (command.prompt_tokens, command.response_tokens, command.demonstration_tokens),
    )
