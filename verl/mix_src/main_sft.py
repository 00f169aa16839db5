"""Supervised fine-tuning: ``python -m verl.mix_src.main_sft [profile=cpu|gpu] [Hydra overrides]``.

Held-out problems are answered before training and at every checkpoint; in between, veRL's SFT trainer runs on all GPUs
(``torchrun``), or as one process on a CPU. ``dry_run=true`` composes and checks the run without starting it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TextIO

import hydra
from omegaconf import DictConfig, OmegaConf

from luffy.command_line import EXIT_BAD_INPUT, EXIT_INTERRUPTED
from luffy.errors import InputError
from verl.mix_src import preflight, same_run, sft_preflight
from verl.mix_src.console import Progress, output_to, said
from verl.mix_src.dry_run import show_help, show_sft
from verl.mix_src.failure import what_failed
from verl.mix_src.finish import finish, finish_again
from verl.mix_src.lifecycle import supervised
from verl.mix_src.prompts import compare_prompts
from verl.mix_src.run_identity import folder_of_its_own
from verl.mix_src.sft_files import SftFiles
from verl.mix_src.sft_heldout import held_out_metrics

EXIT_FAILED = 1
RANK_MODULE = "verl.mix_src.sft_trainer"


@hydra.main(config_path="config/sft", config_name="sft", version_base=None)
def compose_and_train(config: DictConfig) -> None:
    """Check the composed config and the machine, then train and report."""
    try:
        preflight.check_extension()
        sft_preflight.check_config(config)
        if config.dry_run:
            show_sft(config)
            return
        same_run.check_folder(config)
        steps = sft_preflight.check_machine(config)
        files = SftFiles(Path(config.trainer.default_local_dir))
        if files.summary.exists() and (done := same_run.nothing_left(config, steps)):
            sys.exit(finish_again(config, files, done))
        with folder_of_its_own(files.folder):
            sys.exit(run(config, steps))
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(EXIT_BAD_INPUT)


def run(config: DictConfig, steps: int) -> int:
    """Measure, train and measure again.

    Args:
        config: a checked config.
        steps: optimizer steps of the whole run.

    Returns:
        An exit code: 0, 1 where training failed, 130 after Ctrl-C.
    """
    files = SftFiles(Path(config.trainer.default_local_dir))
    notes = same_run.begin(config, files)
    if files.checkpoint is None:
        shutil.rmtree(files.held_out, ignore_errors=True)  # answers of an earlier run that is gone
    OmegaConf.save(config, files.config, resolve=True)
    start, log_start = time.monotonic(), files.log.stat().st_size if files.log.exists() else 0
    with supervised() as watch, output_to(files.log) as console:
        console.write("".join(f"{line}\n" for line in (f"run folder {files.folder}, log {files.log}", *notes)))
        for note in compare_prompts(config.model.path, config.data, files.folder):
            console.write(f"note: {note}\n")
        try:
            held_out = {0: _measure(config, files, 0, Path(config.model.path), console)}
            with Progress(console, files.metrics, steps, watch, files.first_step(config)):
                code = _train(config, files, steps)
            if code:
                found = what_failed(files.log, log_start, f"a training process (exit code {code})")
                console.write(f"error: the run failed, {found} (details in {files.log})\n")
                return EXIT_FAILED
            for step, model in files.exported_models().items():
                held_out[step] = _measure(config, files, step, model, console)
        except KeyboardInterrupt:
            console.write("interrupted: ending all processes\n")
            return EXIT_INTERRUPTED
        finally:
            files.add_start(seconds=time.monotonic() - start, peak_memory_bytes=watch.peak_memory_bytes)
    files.add_metrics(held_out)
    finish(config, files)
    return 0


def _measure(config: DictConfig, files: SftFiles, step: int, model: Path, console: TextIO) -> dict[str, float]:
    if config.data.val_files is None:
        return {}
    metrics = held_out_metrics(config, model, files.held_out / f"step_{step}")
    console.write(f"step {step}: {said(metrics)}\n")
    return metrics


def _train(config: DictConfig, files: SftFiles, steps: int) -> int:
    """Run the ranks to their end; return their exit code."""
    if files.checkpoint is not None and files.checkpoint.name == f"global_step_{steps}":
        return 0  # veRL would train one step more
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={config.trainer.n_gpus_per_node}"]
    environment = {**os.environ, "VERL_FILE_LOGGER_PATH": str(files.metrics.resolve())}
    return subprocess.run([sys.executable, *launcher, "-m", RANK_MODULE, str(files.config)], env=environment).returncode


def main() -> None:
    """Entry point: help on one screen, and a check of the overrides by name before Hydra sees them."""
    show_help("sft/help.txt")
    try:
        preflight.check_command_line(sys.argv[1:], module="verl.mix_src.config.sft", name="sft")
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(EXIT_BAD_INPUT)
    compose_and_train()


if __name__ == "__main__":
    main()
