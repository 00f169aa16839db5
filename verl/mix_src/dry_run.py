"""What a run would do, on one screen: what will run, on what, how long, what it needs, and all that is missing here."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from luffy.errors import InputError
from verl.mix_src import preflight, same_run, sft_preflight
from verl.mix_src.held_out import files_of, rows_held_out
from verl.mix_src.preflight.needs import needs
from verl.mix_src.prompts import compare_prompts
from verl.mix_src.resolvers import AUTO
from verl.mix_src.run_files import RunFiles

WHOLE = "the whole configuration: --cfg job"
TIMES = {  # seen by us on the embedded example, by the paper's authors on their data; by training file
    "outputs/tiny/train.parquet": "60 steps take about 8 minutes on 2 cores",
    "data/openr1.parquet": "500 steps took the paper's authors 77 hours on 8 A100",
}


def show_help(file: str) -> None:
    """Where ``--help`` is asked for: print the text in ``config/`` and end, before anything is composed."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        sys.stdout.write((Path(__file__).parent / "config" / file).read_text(encoding="utf-8"))
        sys.exit(0)


def show_rl(config: DictConfig, problems: list[str]) -> None:
    """Print what reinforcement learning would run, and what is missing here."""
    rollout, trainer, data = config.actor_rollout_ref.rollout, config.trainer, config.data
    gpus = trainer.nnodes * trainer.n_gpus_per_node
    rows = {
        "experiment": trainer.experiment_name,
        "model": config.actor_rollout_ref.model.path,
        "devices": f"{trainer.nnodes} x {trainer.n_gpus_per_node} {trainer.device}",
        "rollout replicas": f"{gpus // rollout.tensor_model_parallel_size}, each on {rollout.tensor_model_parallel_size}",
        "rows a step": f"{data.train_batch_size} prompts x {rollout.n} (of which {config.luffy.guidance.n_demonstrations} demonstrations)",
        "updates a step": data.train_batch_size // config.actor_rollout_ref.actor.ppo_mini_batch_size,
        "tokens a row": f"{data.max_prompt_length} + {data.max_response_length}",
        "learning rate": config.actor_rollout_ref.actor.optim.lr,
        "checkpoints": _every(trainer.save_freq),
        "validation": f"{_validation(config)}, {_every(trainer.test_freq)}",
        "time": TIMES.get(str(data.train_files), "shown after the first step"),
    }
    rows |= {need.name: need for need in needs(config)}
    _show(config, rows, preflight.row_lengths(config).notes, problems)


def show_sft(config: DictConfig) -> None:
    """Print what supervised fine-tuning would run, and what is missing here."""
    data, trainer = config.data, config.trainer
    _, problems = sft_preflight.examine(config)
    rows = {
        "experiment": trainer.experiment_name,
        "model": config.model.path,
        "devices": f"{trainer.nnodes} x {trainer.n_gpus_per_node} {trainer.device}",
        "traces a step": data.train_batch_size,
        "tokens a sample": f"up to {data.max_length}",
        "learning rate": config.optim.lr,
        "checkpoints": "after the last step" if trainer.save_freq == -1 else _every(trainer.save_freq),
        "validation": f"{_validation(config)}, before training and at each checkpoint",
    }
    _show(config, rows, [], problems)


def _show(config: DictConfig, rows: dict[str, Any], notes: Iterable[str], problems: list[str]) -> None:
    problems = list(dict.fromkeys([*problems, *_of_the_folder(config)]))
    notes = [*notes, *(compare_prompts(rows["model"], config.data) if not problems else ())]
    files = RunFiles(Path(config.trainer.default_local_dir))
    steps = _steps(config)
    rows |= {
        "train data": ", ".join(files_of(config.data.train_files)),
        "steps": steps if steps is not None else f"of {config.trainer.total_epochs} passes over the data",
        "run folder": f"{files.folder}{_state(config, files, steps)}",
    }
    sys.stdout.write("".join(f"{name:<17}{value}\n" for name, value in rows.items()))
    sys.stdout.write("".join(f"note: {note}\n" for note in notes))
    sys.stdout.write("".join(f"not ready here: {problem}\n" for problem in problems) or "ready\n")
    sys.stdout.write(f"{WHOLE}\n")


def _of_the_folder(config: DictConfig) -> Iterable[str]:
    try:
        same_run.check_folder(config)
    except InputError as error:
        yield str(error)


def _steps(config: DictConfig) -> int | None:
    try:
        return same_run.total_steps(config)
    except (InputError, OSError):
        return None  # the data is not there; a problem says so


def _state(config: DictConfig, files: RunFiles, steps: int | None) -> str:
    done = files.first_step(config)
    if steps and done >= steps:
        return f" (has all {steps} steps: nothing left to do)"
    return f" (goes on after step {done})" if done else ""


def _validation(config: DictConfig) -> str:
    if config.data.val_files != AUTO:
        return ", ".join(files_of(config.data.val_files)) or "none"
    try:
        rows = rows_held_out(config)
    except InputError:
        return AUTO
    return f"{rows} rows held out of the training data" if rows else "none: too few rows to hold some out"


def _every(frequency: Any) -> str:
    if not isinstance(frequency, int):
        return str(frequency).replace("_", " ")
    return f"every {frequency} steps" if frequency > 0 else "none"
