"""Supervised fine-tuning: ``python -m verl.mix_src.main_sft [profile=cpu|gpu] [Hydra overrides]``.

Held-out problems are answered before training and at every checkpoint; in between, veRL's SFT trainer runs on all GPUs
(``torchrun``), or as one process on a CPU. ``dry_run=true`` composes and checks the run without starting it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TextIO

import psutil
from omegaconf import DictConfig

from luffy.evaluation.gpus import visible_gpus
from luffy.progress import Bar
from luffy.safety import Phase
from verl.mix_src.config import luffy_config
from verl.mix_src.run import loggers, preflight
from verl.mix_src.run.console import Progress, said
from verl.mix_src.run.entry import Run, RunFailed, command
from verl.mix_src.run.preflight.inputs import sft_steps
from verl.mix_src.run.processes import RUN_NAME, Watch, new_run_name
from verl.mix_src.run.sockets import LOOPBACK, keep_to_this_machine
from verl.mix_src.run.stalls import StallWatch, begin, remove_phase
from verl.mix_src.sft.heldout import held_out_metrics
from verl.mix_src.upstream import METRICS_FILE, RANK_NAME

RANK_MODULE = "verl.mix_src.sft.trainer"
LAUNCHER = "import verl.mix_src.register, torch.distributed.run as launcher; launcher.main()"  # its store keeps to this machine, too
TORCHRUN = ("-c", LAUNCHER, "--standalone", f"--local_addr={LOOPBACK}")  # else it looks for its store where the host name leads


class RankStalls(StallWatch):
    """Knows the ranks, which have no titles of their own."""

    def look(self, parts: Mapping[psutil.Process, str]) -> str | None:
        """See :meth:`StallWatch.look`."""
        return super().look({**parts, **dict.fromkeys(_ranks(), RANK_NAME)})


def _ranks() -> Iterator[psutil.Process]:
    for process in psutil.Process().children(recursive=True):
        try:
            if RANK_MODULE in process.cmdline() and "-m" in process.cmdline() and LAUNCHER not in process.cmdline():
                yield process
        except psutil.Error:
            continue  # ended while we looked


class SupervisedTuning(Run):
    """Measure, train and measure again."""

    config_module, config_name = "verl.mix_src.config.sft", "sft"
    config_checks, machine_checks = preflight.SFT_CONFIG, preflight.SFT_MACHINE

    def __init__(self, config: DictConfig) -> None:
        super().__init__(config)
        self.name = new_run_name()

    @cache  # noqa: B019  a process has one run
    def steps(self) -> int:
        preflight.refuse(self.machine_checks, self.config)
        return sft_steps(self.config)

    def may_be_done(self) -> bool:
        """The last answers to held-out problems come after the last checkpoint."""
        return self.files.summary.exists()

    def prepare(self) -> None:
        keep_to_this_machine()
        self._keep_to_its_gpus()
        os.environ[RUN_NAME] = self.name  # of this process, which answers the held-out problems, and of the ranks
        if self.files.checkpoint is None:
            shutil.rmtree(self.files.held_out, ignore_errors=True)  # answers of an earlier run that is gone

    def _keep_to_its_gpus(self) -> None:
        """Show this process, whose engines take all that it sees, no more GPUs than the ranks train on."""
        gpus, wanted = visible_gpus(), self.config.trainer.n_gpus_per_node
        if len(gpus) > wanted:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpu.name for gpu in gpus[:wanted])
            os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # as nvidia-smi counts them

    def stalls(self, console: TextIO) -> StallWatch:
        remove_phase(self.name)
        safety = luffy_config(self.config).safety
        return RankStalls(safety, self.name, lambda line: Bar.write(line, file=console))

    def close(self) -> None:
        remove_phase(self.name)

    def train(self, console: TextIO, watch: Watch) -> None:
        steps, held_out = self.steps(), {0: self._measure(0, Path(self.config.model.path), console)}
        begin(Phase.START, 0)
        with Progress(console, self.files.metrics, steps, watch, self.files.first_step(self.config)):
            if code := self._run_ranks(steps):
                raise RunFailed(f"a training process (exit code {code})")
        for step, model in self.files.exported_models().items():
            held_out[step] = self._measure(step, model, console)
        self.files.add_metrics(held_out)

    def _measure(self, step: int, model: Path, console: TextIO) -> dict[str, float]:
        if self.config.data.val_files is None:
            return {}
        begin(Phase.VALIDATION, step)
        metrics = held_out_metrics(self.config, model, self.files.held_out / f"step_{step}")
        console.write(f"step {step}: {said(metrics)}\n")
        return metrics

    def _run_ranks(self, steps: int) -> int:
        """Run the ranks to their end; return their exit code."""
        if self.files.checkpoint is not None and self.files.checkpoint.name == f"global_step_{steps}":
            return 0  # veRL would train one step more
        launcher = [*TORCHRUN, f"--nproc_per_node={self.config.trainer.n_gpus_per_node}"]
        environment = {
            **os.environ,
            METRICS_FILE: str(self.files.metrics.resolve()),
            **loggers.environment(self.config, self.files),
        }
        return subprocess.run([sys.executable, *launcher, "-m", RANK_MODULE, str(self.files.config)], env=environment).returncode


def main() -> None:
    """Entry point."""
    command(SupervisedTuning)


if __name__ == "__main__":
    main()
