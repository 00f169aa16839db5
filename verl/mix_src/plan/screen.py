"""What the command shows, and its line in a dry run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from luffy.data.rows import row_count
from luffy.errors import InputError
from luffy.plan import GIB, PARTS, cache_tokens, step_flops, step_seconds
from verl.mix_src.config import luffy_config
from verl.mix_src.plan.reading import Command, Plan, read_plan
from verl.mix_src.run.data import files_of
from verl.mix_src.run.preflight.machine import disk

RECORDED_BYTES = 24  # a token of a recorded group: five fp32 values, and its text
STORED_BYTES = 8  # a token of the store


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
    fits = "" if size <= plan.device.memory else ", which DOES NOT FIT"
    there = f"{plan.device.memory / GIB:.1f} GiB of {plan.device.name}{fits}"
    return f"{phase} about {size / GIB:.1f} of {there}; all parts: python -m verl.mix_src.plan"
