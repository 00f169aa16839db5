"""What a run shows on one screen: before it starts (dry run), and what came out at its end."""

from __future__ import annotations

import json
import sys
from typing import Any

from omegaconf import DictConfig

from luffy.config import LuffyConfig
from luffy.errors import InputError
from luffy.record import recorded_files
from luffy.schedules import is_on
from luffy.training_report import plot_training, read_metrics, summarize, write_metrics
from verl.mix_src.config import AUTO, is_rl, luffy_config, model_node
from verl.mix_src.plan.screen import summary
from verl.mix_src.rl.second_pass import leaves_out, passes_of
from verl.mix_src.run import identity, preflight
from verl.mix_src.run.cards import write_cards
from verl.mix_src.run.checkpoints import best_checkpoint
from verl.mix_src.run.data import compare_prompts, files_of, rows_held_out
from verl.mix_src.run.folder import RunFiles
from verl.mix_src.run.preflight.inputs import row_lengths
from verl.mix_src.run.preflight.machine import needs

LEFT_OUT = {  # by luffy.run.leave_out
    "nothing": "nothing: rows without a gradient are computed too",
    "without_gradient": "rows without a gradient",
    "without_advantage": "rows without an advantage, from the entropy bonus and the KL divergences too",
}
WHOLE = "the whole configuration: --cfg job"
TIMES = {  # seen by us on the embedded example, by the paper's authors on their data; by device and training file
    ("cpu", "outputs/tiny/train.parquet"): "60 steps take about 4 minutes on 2 cores",
    ("cuda", "data/openr1.parquet"): "500 steps took the paper's authors 77 hours on 8 A100",
}


def _rl_rows(config: DictConfig) -> dict[str, Any]:
    """What reinforcement learning would run."""
    rollout, trainer, data = config.actor_rollout_ref.rollout, config.trainer, config.data
    luffy = luffy_config(config)
    gpus = trainer.nnodes * trainer.n_gpus_per_node
    rows = {
        "rollout replicas": f"{gpus // rollout.tensor_model_parallel_size}, each on {rollout.tensor_model_parallel_size}",
        "rows a step": f"{data.train_batch_size} prompts x {rollout.n} (of which {luffy.guidance.demonstrations_in(rollout.n)} demonstrations)",
        "updates a step": data.train_batch_size // config.actor_rollout_ref.actor.ppo_mini_batch_size,
        "forward passes": passes_of(config, luffy),
        "left out": _left_out(config, luffy),
        "tokens a row": f"{data.max_prompt_length} + {data.max_response_length}",
        "learning rate": config.actor_rollout_ref.actor.optim.lr,
        "checkpoints": _every(trainer.save_freq),
        "validation": f"{_validation(config)}, {_every(trainer.test_freq)}",
        "time": TIMES.get((trainer.device, str(data.train_files)), "shown after the first step"),
    }
    largest = {"largest phase": line} if (line := summary(config)) else {}
    return rows | {need.name: need for need in needs(config)} | largest


def _left_out(config: DictConfig, luffy: LuffyConfig) -> str:
    if not leaves_out(config, luffy):
        return LEFT_OUT["nothing"]
    objective = luffy.objective
    bonus = luffy.entropy.coefficient > 0 and objective.entropy_tokens == "all"
    kl = objective.kl_to_old_coefficient > 0 or is_on(objective.kl_coefficient) and objective.kl_tokens == "all"
    if luffy.run.leave_out == "without_gradient" and (bonus or kl):
        return f"nothing: the {'entropy bonus (luffy.entropy.coefficient)' if bonus else 'KL divergence'} reads every row"
    return LEFT_OUT[luffy.run.leave_out]


def _sft_rows(config: DictConfig) -> dict[str, Any]:
    """What supervised fine-tuning would run."""
    data, trainer = config.data, config.trainer
    return {
        "traces a step": data.train_batch_size,
        "tokens a sample": f"up to {data.max_length}",
        "learning rate": config.optim.lr,
        "checkpoints": "after the last step" if trainer.save_freq == -1 else _every(trainer.save_freq),
        "validation": f"{_validation(config)}, before training and at each checkpoint",
    }


def show_plan(config: DictConfig, problems: list[str]) -> None:
    """Print what would run, and what is missing here."""
    files, trainer = RunFiles.of(config), config.trainer
    problems = list(dict.fromkeys([*problems, *preflight.problems([identity.check_folder], config)]))
    notes = [*row_lengths(config).notes, *(compare_prompts(config) if not problems else ())]
    steps = _steps(config)
    rows = {
        "experiment": trainer.experiment_name,
        "method": f"{config.method.title} ({config.method.paper})",
        "model": model_node(config).path,
        "devices": f"{trainer.nnodes} x {trainer.n_gpus_per_node} {trainer.device}",
        **(_rl_rows if is_rl(config) else _sft_rows)(config),
        "train data": ", ".join(files_of(config.data.train_files)),
        "steps": steps if steps is not None else f"of {config.trainer.total_epochs} passes over the data",
        "run folder": f"{files.folder}{_state(config, files, steps)}",
    }
    sys.stdout.write("".join(f"{name:<17}{value}\n" for name, value in rows.items()))
    sys.stdout.write("".join(f"note: {note}\n" for note in notes))
    sys.stdout.write("".join(f"not ready here: {problem}\n" for problem in problems) or "ready\n")
    sys.stdout.write(f"{WHOLE}\n")


def _steps(config: DictConfig) -> int | None:
    try:
        return identity.total_steps(config)
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


def finish(config: DictConfig, files: RunFiles) -> None:
    """Write summary and plots of the whole run, all its starts together, and tell a person what came out and how to try the model."""
    records = read_metrics(files.metrics)
    write_metrics(files.metrics, records)  # one line a step
    summary = summarize(
        records,
        experiment=config.trainer.experiment_name,
        seed=config.luffy.run.seed,
        validation=files.read_record.get("validation") or ", ".join(files_of(config.data.val_files)),
        starts=len(files.starts),
        seconds=round(sum(start["seconds"] for start in files.starts), 1),
        peak_memory_bytes=max((start["peak_memory_bytes"] for start in files.starts), default=0),
        checkpoint=files.checkpoint and str(files.checkpoint),
        hf_model=files.hf_model and str(files.hf_model),
    )
    cards = write_cards(config, files, records, summary)
    plots = plot_training(records, files.plots)
    files.summary.write_text(json.dumps(summary, indent=2) + "\n")
    _show_end(config, files, summary, len(plots), len(cards))


def finish_again(config: DictConfig, files: RunFiles, why: str) -> None:
    """Where all steps are done: say so; write a summary only where an end that was cut off left none."""
    sys.stderr.write(f"{why}\n")
    if files.summary.exists():
        sys.stdout.write(f"summary: {files.summary}\n")
    else:
        finish(config, files)


def _show_end(config: DictConfig, files: RunFiles, summary: dict[str, Any], n_plots: int, n_cards: int) -> None:
    rows = [("experiment", summary["experiment"]), ("steps", summary["steps"])]
    for name, after in summary["heldout_after"].items():
        before = summary["heldout_before"].get(name)
        rows.append((f"held-out {name}", f"{'not measured' if before is None else f'{before:.3f}'} -> {after:.3f}"))
    if not summary["heldout_after"]:
        rows.append(("held-out", summary["validation"] if summary["validation"].startswith("no ") else "not measured"))
    starts = f" in {summary['starts']} starts" if summary["starts"] > 1 else ""
    rows += [
        ("seconds", f"{summary['seconds']:.0f}{starts}"),
        ("peak memory", f"{summary['peak_memory_bytes'] / 2**30:.1f} GiB"),
        ("checkpoint", summary["checkpoint"]),
        *([("best one", best)] if (best := best_checkpoint(files.folder)) else []),
        *([("model cards", f"{n_cards}, README.md in each exported model")] if n_cards else []),
        ("plots", f"{n_plots} in {files.plots}"),
        *([("see groups", f".venv/bin/python eval_scripts/view.py {files.folder}")] if recorded_files(files.folder) else []),
    ]
    if summary["hf_model"]:
        rows.append(("try it", _trial_command(config, summary["hf_model"], files)))
    width = max(len(name) for name, _ in rows)
    sys.stdout.write("".join(f"{name:<{width}}  {value}\n" for name, value in rows))
    sys.stdout.write(f"summary: {files.summary}\n")
    sys.stdout.flush()


def _trial_command(config: DictConfig, model: str, files: RunFiles) -> str:
    if not (held_out := files_of(config.data.val_files)):
        return f'.venv/bin/python eval_scripts/infer.py --model_path {model} "a question"'
    return (
        f".venv/bin/python eval_scripts/generate_vllm.py --model_path {model} --input_file {held_out[0]} "
        f"--output_file {files.folder / 'heldout.jsonl'} --remove_system False --max_tokens {config.data.max_response_length}"
    )
