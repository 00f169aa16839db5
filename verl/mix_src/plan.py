"""What a configured run needs: ``python -m verl.mix_src.plan [--gpu NAME] [overrides]``, in seconds, on any machine, without weights.

Shows memory of a GPU by part and phase, disk, tokens, operations and hours; refuses what cannot fit with the nearest setting that does.
The arithmetic is :mod:`luffy.plan`; this module reads veRL's config.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from hydra import compose, initialize_config_module
from omegaconf import DictConfig

from luffy import command_line
from luffy.command_line import NumberFrom0, PositiveNumber, option
from luffy.data.rows import row_count
from luffy.errors import InputError
from luffy.evaluation.gpus import visible_gpus
from luffy.plan import (
    GIB,
    GPUS,
    PARTS,
    Change,
    Device,
    Layout,
    Parts,
    Shape,
    Work,
    cache_tokens,
    find_device,
    memory,
    named_shape,
    nearest,
    short_of,
    step_flops,
    step_seconds,
)  # fmt: skip
from luffy.vllm_cpu import ENVIRONMENT
from verl.mix_src.config import luffy_config
from verl.mix_src.rl.second_pass import second_pass_for
from verl.mix_src.run.data import files_of
from verl.mix_src.run.preflight.machine import disk
from verl.mix_src.run.preflight.overrides import check_command_line

ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
PAPER_GPU = "A100-80GB"
PROCESSES = 5.6 * GIB  # of the thirteen processes of a run on a CPU beside tensors, 0.3 to 0.6 GiB each (docs/performance.md)
PROMPT, RESPONSE, DEMONSTRATION = 0.25, 0.25, 0.5  # of their budgets, where nobody says how long rows are in the mean
RECORDED_BYTES = 24  # a token of a recorded group: five fp32 values, and its text
STORED_BYTES = 8  # a token of the store
EVERY_STEP = 0.01  # vLLM's share of a GPU is changed by so much


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
    attention = model.override_config.get("attn_implementation", "flash_attention_2")
    packed = bool(model.use_remove_padding) and attention == "sdpa"
    update = actor.ppo_max_token_len_per_gpu if actor.use_dynamic_bsz else row * (actor.ppo_micro_batch_size_per_gpu or 1)
    forward = rollout.log_prob_max_token_len_per_gpu if rollout.log_prob_use_dynamic_bsz else row * (
        rollout.log_prob_micro_batch_size_per_gpu or 1)  # fmt: skip
    precision = (engine.get("mixed_precision") or {}).get("param_dtype", "bf16")
    apart = trainer.v1.trainer_mode == "separate_async"
    return Layout(
        gpus=engine.fsdp_size if engine.fsdp_size > 0 else ranks,
        tensor_parallel=rollout.tensor_model_parallel_size,
        share=0.0 if on_cpu or apart else rollout.gpu_memory_utilization,
        number=4 if precision in ("fp32", "float32") else 2,
        rollout_number=4 if rollout.dtype == "float32" else 2,
        update_tokens=min(update, row * rows),
        log_prob_tokens=min(forward, row * rows),
        row_tokens=row,
        checkpointing=bool(model.enable_gradient_checkpointing),
        repeats_keys=attention != "flash_attention_2",
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
        **({"overhead": PROCESSES, "sleeps": False} if on_cpu else {}),
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
    trainer, rollout = config.trainer, config.actor_rollout_ref.rollout
    apart = trainer.v1.trainer_mode == "separate_async"
    return Plan(
        config=config,
        shape=find_shape(str(config.actor_rollout_ref.model.path)),
        device=choose_device(command.gpu, config),
        layout=read_layout(config),
        work=read_work(config, command),
        rollout_gpus=rollout.nnodes * rollout.n_gpus_per_node if apart else trainer.nnodes * trainer.n_gpus_per_node,
        assumed=None in (command.prompt_tokens, command.response_tokens, command.demonstration_tokens),
    )


def levers(plan: Plan) -> list[Callable[[Layout], Iterator[Change]]]:
    """What gives room, the least harm first: smaller micro-batches, less for vLLM, more computing, offloading, more GPUs."""
    config, heads = plan.config, plan.shape.kv_heads
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout

    def tokens(field: str, by_tokens: bool, key: str, rows_key: str) -> Callable[[Layout], Iterator[Change]]:
        def lever(layout: Layout) -> Iterator[Change]:
            now, row = getattr(layout, field), layout.row_tokens
            step = 16 * max(1, (now - row) // 1024) if by_tokens else row
            for fewer in [*range(now - step, row, -step), *([row] if now > row else [])]:
                yield Change(overrides={key: fewer} if by_tokens else {rows_key: fewer // row}, layout=replace(layout, **{field: fewer}))

        return lever

    def share(layout: Layout) -> Iterator[Change]:
        for hundredths in range(round(layout.share * 100) - 1, 9, -1):
            less = round(hundredths * EVERY_STEP, 2)
            yield Change(overrides={f"{ROLLOUT}.gpu_memory_utilization": less}, layout=replace(layout, share=less))

    def switch(field: str, key: str, possible: bool = True) -> Callable[[Layout], Iterator[Change]]:
        def lever(layout: Layout) -> Iterator[Change]:
            if possible and not getattr(layout, field):
                yield Change(overrides={key: "true"}, layout=replace(layout, **{field: True}))

        return lever

    def tensor_parallel(layout: Layout) -> Iterator[Change]:
        for size in (2, 4, 8):
            if layout.tensor_parallel < size <= plan.rollout_gpus and not heads % size and not plan.rollout_gpus % size:
                yield Change(overrides={f"{ROLLOUT}.tensor_model_parallel_size": size}, layout=replace(layout, tensor_parallel=size))

    def gpus(layout: Layout) -> Iterator[Change]:
        for nodes, each in ((1, 2), (1, 4), (1, 8), (2, 8), (4, 8), (8, 8)):
            if nodes * each > layout.gpus:
                yield Change(
                    overrides={"trainer.nnodes": nodes, "trainer.n_gpus_per_node": each}, layout=replace(layout, gpus=nodes * each)
                )

    on_gpu = config.trainer.device != "cpu"
    model = "actor_rollout_ref.model"
    found = [
        tokens("update_tokens", actor.use_dynamic_bsz, f"{ACTOR}.ppo_max_token_len_per_gpu", f"{ACTOR}.ppo_micro_batch_size_per_gpu"),
        tokens("log_prob_tokens", rollout.log_prob_use_dynamic_bsz, f"{ROLLOUT}.log_prob_max_token_len_per_gpu",
               f"{ROLLOUT}.log_prob_micro_batch_size_per_gpu"),
        *([share] if plan.layout.share else []),
        switch("fused", f"{model}.use_fused_kernels", bool(config.actor_rollout_ref.model.use_remove_padding)),
        switch("checkpointing", f"{model}.enable_gradient_checkpointing"),
    ]  # fmt: skip
    if on_gpu:
        offload = f"{ACTOR}.fsdp_config"
        found += [switch("offload_moments", f"{offload}.optimizer_offload"), switch("offload_weights", f"{offload}.param_offload"),
                  tensor_parallel, gpus]  # fmt: skip
    return found


def refusal(plan: Plan) -> str | None:
    """One line where the run cannot fit: what is missing, and the overrides to paste; None where it fits."""
    if plan.fits(plan.layout):
        return None
    short, memory_of = short_of(plan.phases(), plan.device.memory), f"{plan.device.memory / GIB:.1f} GiB of {plan.device.name}"
    if short:
        phase = max(short, key=lambda each: short[each])
        why = f"{phase}: about {(short[phase] + plan.device.memory) / GIB:.1f} GiB needed of the {memory_of}"
    else:
        why = f"rollout: vLLM's share of the {memory_of} holds no whole row of {plan.layout.row_tokens} tokens"
    if change := nearest(plan.layout, plan.fits, levers(plan)):
        return f"{why}: set {' '.join(f'{key}={value}' for key, value in change.overrides.items())}"
    return f"{why}: no setting makes it fit; take a smaller model, shorter rows, or GPUs with more memory"


def validation_rows(plan: Plan, command: Command) -> float:
    """Answers of one validation; 0 where its files are not there."""
    if command.validation_rows is not None:
        return command.validation_rows
    files = [Path(each) for each in files_of(plan.config.data.val_files)]
    rows = sum(row_count(each) for each in files) if all(each.is_file() for each in files) else 0
    most = plan.config.data.val_max_samples
    return (min(rows, most) if most > 0 else rows) * plan.config.actor_rollout_ref.rollout.val_kwargs.n


def rows_of(plan: Plan, command: Command) -> Iterator[tuple[str, Any]]:
    """The lines of the screen beside the table of memory."""
    config, work, shape, device = plan.config, plan.work, plan.shape, plan.device
    path = config.actor_rollout_ref.model.path
    yield "model", f"{path}: {shape.parameters:,} parameters".replace(",", " ") + f", {shape.layers} layers of {shape.hidden}"
    sheet = f" ({device.flops / 1e12:.0f} TFLOP/s in bf16, {device.bandwidth / 1e12:.2f} TB/s; {device.source})" if device.flops else ""
    yield "devices", f"{config.trainer.nnodes * config.trainer.n_gpus_per_node} x {device.name}, {device.memory / GIB:.1f} GiB{sheet}"
    if plan.layout.share or plan.layout.key_value_bytes:
        held, replicas = cache_tokens(shape, plan.layout, device.memory), max(1, plan.rollout_gpus // plan.layout.tensor_parallel)
        yield (
            "KV cache",
            f"{held:,.0f} tokens a replica, {held / plan.layout.row_tokens:.0f} whole rows of its {work.rollouts / replicas:.0f}",
        )
    yield "disk", _disk(plan)
    guess = " (means are assumed: --prompt_tokens, --response_tokens, --demonstration_tokens)" if plan.assumed else ""
    given = work.prompts * work.demonstrations * work.demonstration
    yield "tokens a step", f"{work.tokens:,.0f}: {work.sampled:,.0f} sampled in {work.rollouts} rows, {given:,.0f} of demonstrations{guess}"
    flops = step_flops(shape, work)
    yield "operations", f"{sum(flops.values()):.2e} a step: " + ", ".join(f"{phase} {each:.1e}" for phase, each in flops.items())
    if device.flops:
        yield "time", _time(plan, command)


def _disk(plan: Plan) -> str:
    config, record = plan.config, luffy_config(plan.config).record
    tokens = plan.work.tokens / max(1, plan.work.prompts)  # of a group
    steps = config.trainer.total_training_steps or 0
    kept = (steps // record.every + 1) * (record.groups + record.largest) * tokens * RECORDED_BYTES if record.every else 0
    parts = [f"{disk(config, plan.shape.parameters)}", f"recorded groups about {kept / GIB:.1f}"]
    if luffy_config(config).store.admit != "nothing":
        most = luffy_config(config).store.capacity or steps * plan.work.rollouts
        parts.append(f"store up to {most * plan.work.response * STORED_BYTES / GIB:.1f}")
    return "; ".join(parts)


def _time(plan: Plan, command: Command) -> str:
    seconds = step_seconds(plan.shape, plan.layout, plan.work, plan.device, rollout_gpus=plan.rollout_gpus)
    steps, step = plan.config.trainer.total_training_steps, sum(seconds.values())
    shown = f"{step:.0f} s a step (" + ", ".join(f"{phase} {each:.0f}" for phase, each in seconds.items()) + ")"
    if not steps:
        return shown
    answers, every = validation_rows(plan, command), plan.config.trainer.test_freq
    looks = steps // every + 1 if every > 0 else 0
    asked = replace(plan.work, prompts=int(answers), group=1, demonstrations=0)
    look = step_seconds(plan.shape, plan.layout, asked, plan.device, rollout_gpus=plan.rollout_gpus)["rollout"] if answers else 0.0
    validation = f" and {looks} validations of {answers:.0f} answers, {look:.0f} s each" if look else ", validation not counted"
    return f"{shown}; {(steps * step + looks * look) / 3600:.0f} hours for {steps} steps{validation}"


def table(plan: Plan) -> str:
    """Memory in GiB by part (rows) and phase (columns)."""
    phases = plan.phases()
    width = max(len(part) for part in PARTS) + 2
    lines = [f"{'GiB a GPU' if plan.device.flops else 'GiB':<{width}}" + "".join(f"{phase:>14}" for phase in phases)]
    for part in PARTS:
        if any(parts.get(part) for parts in phases.values()):
            cells = (f"{parts[part] / GIB:.1f}" if parts.get(part) else "" for parts in phases.values())
            lines.append(f"  {part:<{width - 2}}" + "".join(f"{cell:>14}" for cell in cells))
    totals = [sum(parts.values()) / GIB for parts in phases.values()]
    lines.append(f"{'together':<{width}}" + "".join(f"{total:>14.1f}" for total in totals))
    return "\n".join(lines)


def summary(config: DictConfig) -> str | None:
    """The largest phase, in a line of the dry run; None for a model whose shape is not known."""
    try:
        plan = read_plan(config, Command())
    except InputError:
        return None
    phase, size = max(((phase, sum(parts.values())) for phase, parts in plan.phases().items()), key=lambda each: each[1])
    return f"{phase} about {size / GIB:.1f} of {plan.device.memory / GIB:.1f} GiB of {plan.device.name}; all parts: python -m verl.mix_src.plan"


def planned(command: Command) -> Plan:
    """The plan of a command line.

    Raises:
        InputError: where the overrides or the model are wrong.
    """
    check_command_line(command.overrides)
    with initialize_config_module("verl.mix_src.config", version_base=None):
        return read_plan(compose("mix_ppo", overrides=list(command.overrides)), command)


def main() -> int | None:
    """Show the plan; exit code 2 where it cannot fit."""
    command = command_line.parse(Command, description=__doc__, prog="python -m verl.mix_src.plan")
    plan = planned(command)
    for name, value in rows_of(plan, command):
        sys.stdout.write(f"{name:<17}{value}\n")
    sys.stdout.write(table(plan) + "\n")
    sys.stdout.flush()
    if problem := refusal(plan):
        raise InputError(problem)
    return None


if __name__ == "__main__":
    command_line.run(main)
