"""What a run ends with: summary, plots, a short table."""

from __future__ import annotations

import json
import sys
from typing import Any

from omegaconf import DictConfig

from luffy.training_report import plot_training, read_metrics, summarize, write_metrics
from verl.mix_src.checkpoints import best_checkpoint
from verl.mix_src.held_out import files_of
from verl.mix_src.run_files import RunFiles


def finish(config: DictConfig, files: RunFiles) -> None:
    """Write summary and plots of the whole run, all its starts together, and tell a person what came out and how to try the model.

    Args:
        config: the run's.
        files: its folder, in whose record each start is noted.
    """
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
        checkpoint=_text(files.checkpoint),
        hf_model=_text(files.hf_model),
    )
    plots = plot_training(records, files.plots)
    files.summary.write_text(json.dumps(summary, indent=2) + "\n")
    _show(config, files, summary, len(plots))


def finish_again(config: DictConfig, files: RunFiles, why: str) -> int:
    """Where all steps are done: say so; write a summary only where an end that was cut off left none.

    Returns:
        The exit code.
    """
    sys.stderr.write(f"{why}\n")
    if files.summary.exists():
        sys.stdout.write(f"summary: {files.summary}\n")
    else:
        finish(config, files)
    return 0


def _text(path: Any) -> str | None:
    return None if path is None else str(path)


def _show(config: DictConfig, files: RunFiles, summary: dict[str, Any], n_plots: int) -> None:
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
        ("plots", f"{n_plots} in {files.plots}"),
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
