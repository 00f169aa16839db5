"""What a run ends with: summary, plots, a short table. And what a dry run shows instead."""

from __future__ import annotations

import json
import sys
from typing import Any

from omegaconf import DictConfig, OmegaConf

from luffy.training_report import plot_training, read_metrics, summarize
from verl.mix_src.run_files import RunFiles


def finish(config: DictConfig, files: RunFiles, *, seconds: float, peak_memory_bytes: int) -> None:
    """Write summary and plots, and tell a person what came out and how to try the model."""
    records = read_metrics(files.metrics)
    summary = summarize(
        records,
        experiment=config.trainer.experiment_name,
        seed=config.luffy.run.seed,
        seconds=round(seconds, 1),
        peak_memory_bytes=peak_memory_bytes,
        checkpoint=_text(files.checkpoint),
        hf_model=_text(files.hf_model),
    )
    plots = plot_training(records, files.plots)
    files.summary.write_text(json.dumps(summary, indent=2) + "\n")
    _show(config, files, summary, len(plots))


def _text(path: Any) -> str | None:
    return None if path is None else str(path)


def _show(config: DictConfig, files: RunFiles, summary: dict[str, Any], n_plots: int) -> None:
    rows = [("experiment", summary["experiment"]), ("steps", summary["steps"])]
    for name, after in summary["heldout_after"].items():
        before = summary["heldout_before"].get(name)
        rows.append((f"held-out {name}", f"{'not measured' if before is None else f'{before:.3f}'} -> {after:.3f}"))
    rows += [
        ("seconds", f"{summary['seconds']:.0f}"),
        ("peak memory", f"{summary['peak_memory_bytes'] / 2**30:.1f} GiB"),
        ("checkpoint", summary["checkpoint"]),
        ("plots", f"{n_plots} in {files.plots}"),
    ]
    if summary["hf_model"]:
        rows.append(("try it", _trial_command(config, summary["hf_model"], files)))
    width = max(len(name) for name, _ in rows)
    sys.stdout.write("".join(f"{name:<{width}}  {value}\n" for name, value in rows))
    sys.stdout.write(f"summary: {files.summary}\n")
    sys.stdout.flush()


def _trial_command(config: DictConfig, model: str, files: RunFiles) -> str:
    held_out = config.data.val_files if isinstance(config.data.val_files, str) else config.data.val_files[0]
    return (
        f".venv/bin/python eval_scripts/generate_vllm.py --model_path {model} --input_file {held_out} "
        f"--output_file {files.folder / 'heldout.jsonl'} --max_tokens {config.data.max_response_length}"
    )


def show_resources(config: DictConfig, problems: list[str]) -> None:
    """Print the resolved config, what the run would use, and what is missing here."""
    rollout, trainer = config.actor_rollout_ref.rollout, config.trainer
    demonstrations = config.luffy.guidance.n_demonstrations
    resources = {
        "devices": f"{trainer.nnodes} x {trainer.n_gpus_per_node} {trainer.device}",
        "rollout replicas": f"{trainer.nnodes * trainer.n_gpus_per_node // rollout.tensor_model_parallel_size}, "
        f"each on {rollout.tensor_model_parallel_size}",
        "rows a step": f"{config.data.train_batch_size} prompts x {rollout.n} (of which {demonstrations} demonstrations)",
        "updates a step": config.data.train_batch_size // config.actor_rollout_ref.actor.ppo_mini_batch_size,
        "tokens a row": f"{config.data.max_prompt_length} + {config.data.max_response_length}",
        "steps": trainer.total_training_steps,
        "train data": config.data.train_files,
        "model": config.actor_rollout_ref.model.path,
        "run folder": trainer.default_local_dir,
    }
    sys.stdout.write(OmegaConf.to_yaml(config, resolve=True))
    sys.stdout.write("\n" + "".join(f"{name:<17}{value}\n" for name, value in resources.items()))
    sys.stdout.write("".join(f"not ready here: {problem}\n" for problem in problems) or "ready\n")
