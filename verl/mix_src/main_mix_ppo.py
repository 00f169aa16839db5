"""Train: ``python -m verl.mix_src.main_mix_ppo [profile=cpu|gpu] [experiment=NAME] [Hydra overrides]``.

``dry_run=true`` composes, checks and shows the run without starting it.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import hydra
import ray
from omegaconf import DictConfig, OmegaConf, open_dict
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from verl.trainer.main_ppo import run_ppo

from luffy.command_line import EXIT_BAD_INPUT, EXIT_INTERRUPTED
from luffy.errors import InputError
from verl.mix_src import nodes, preflight, same_run
from verl.mix_src.console import Progress, output_to
from verl.mix_src.dry_run import show_help, show_rl
from verl.mix_src.failure import what_failed
from verl.mix_src.finish import finish, finish_again
from verl.mix_src.held_out import make_definite
from verl.mix_src.lifecycle import Watch, supervised
from verl.mix_src.prompts import compare_prompts
from verl.mix_src.run_files import RunFiles
from verl.mix_src.run_identity import RUN_NAME, folder_of_its_own, new_run_name, remove_sockets
from verl.mix_src.task_runner import MixTaskRunner

EXIT_FAILED = 1
RAY_STARTS = 3  # Ray's node manager ends where a helper of its own needs over 15 s to start; no setting of Ray's changes that


@hydra.main(config_path="config", config_name="mix_ppo", version_base=None)
def compose_and_train(config: DictConfig) -> None:
    """Check the composed config and the machine, then train and report."""
    try:
        preflight.check_extension()
        preflight.check_config(config)
        if config.dry_run:
            show_rl(config, list(preflight.machine_problems(config)))
            return
        same_run.check_folder(config)
        if done := same_run.nothing_left(config, same_run.total_steps(config)):
            sys.exit(finish_again(config, RunFiles(Path(config.trainer.default_local_dir)), done))
        preflight.check_machine(config)
        with folder_of_its_own(Path(config.trainer.default_local_dir)):
            sys.exit(train(config, task_runner(config)))
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(EXIT_BAD_INPUT)


def task_runner(config: DictConfig) -> Any:
    """The Ray actor class in which the whole training runs; of a joined cluster, once it is checked, on this machine.

    Raises:
        InputError: where the cluster is not ready.
    """
    if not nodes.joins_a_cluster():
        return ray.remote(MixTaskRunner)
    nodes.prepare_to_join(config)
    here = nodes.check_cluster(nodes.absolute_paths(config))
    return ray.remote(scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False))(MixTaskRunner)


def train(config: DictConfig, runner: Any) -> int:
    """Run ``config`` on Ray from start to end.

    Args:
        config: a checked config.
        runner: veRL's task runner as a Ray actor class.

    Returns:
        An exit code: 0, 1 where a part failed, 130 after Ctrl-C.
    """
    files = RunFiles(Path(config.trainer.default_local_dir))
    notes = [*preflight.row_lengths(config).notes, *same_run.begin(config, files)]
    make_definite(config, files)
    OmegaConf.save(config, files.config, resolve=True)
    steps, first_step = same_run.total_steps(config), files.first_step(config)
    name = new_run_name()
    _pass_environment(config, files, name)
    start, log_start = time.monotonic(), files.log.stat().st_size if files.log.exists() else 0
    elsewhere = nodes.ClusterParts().living if nodes.joins_a_cluster() else dict
    with output_to(files.log) as console:
        console.write(f"run folder {files.folder}, log {files.log}\n")
        console.write("".join(f"{line}\n" for line in notes))
        for note in compare_prompts(config.actor_rollout_ref.model.path, config.data, files.folder):
            console.write(f"note: {note}\n")
        for last in [False] * (RAY_STARTS - 1) + [True]:
            with supervised(elsewhere) as watch:
                try:
                    with Progress(console, files.metrics, steps, watch, first_step):
                        run_ppo(nodes.absolute_paths(config), task_runner_class=runner)
                        watch.ending.set()
                    break
                except (KeyboardInterrupt, SystemExit):  # Ray turns SIGTERM into SystemExit
                    if watch.first_failure is None:
                        console.write("interrupted: ending all processes\n")
                        return EXIT_INTERRUPTED
                    if last or ray.is_initialized():
                        return _failed(console, watch, files, log_start)
                    console.write(f"Ray did not start ({watch.first_failure}), as happens on a busy machine: once more\n")
                except ray.exceptions.RayError as error:
                    return _failed(console, watch, files, log_start, error)
                finally:
                    watch.stop()
                    ray.shutdown()
                    remove_sockets(name)
                    files.add_start(seconds=time.monotonic() - start, peak_memory_bytes=watch.peak_memory_bytes)
                    start = time.monotonic()
    finish(config, files)
    return 0


def _failed(console, watch: Watch, files: RunFiles, log_start: int, error: Exception | None = None) -> int:
    if error is not None:
        sys.stderr.write(f"{error}\n")  # into the log
        sys.stderr.flush()
    console.write(f"error: the run failed, {what_failed(files.log, log_start, watch.first_failure, error)} (details in {files.log})\n")
    return EXIT_FAILED


def _pass_environment(config: DictConfig, files: RunFiles, name: str) -> None:
    """Environment of every Ray worker, also of those on other nodes."""
    variables = {
        RUN_NAME: name,
        "VERL_FILE_LOGGER_PATH": str(files.metrics.resolve()),
        "HYDRA_FULL_ERROR": "1",
        **({"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")} if config.trainer.device == "cpu" else {}),
    }
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 yields to everything else on the machine
    os.environ.setdefault("RAY_agent_register_timeout_ms", "180000")  # Ray's 30 s, and 60 s for a worker, end the start of a run
    os.environ.setdefault("RAY_worker_register_timeout_seconds", "180")  # on a busy machine
    with open_dict(config):
        given = OmegaConf.select(config, "ray_kwargs.ray_init.runtime_env.env_vars") or {}
        OmegaConf.update(config, "ray_kwargs.ray_init.runtime_env.env_vars", {**variables, **given}, merge=True, force_add=True)


def main() -> None:
    """Entry point: help on one screen, and a check of the overrides by name before Hydra sees them."""
    show_help("help.txt")
    try:
        preflight.check_command_line(sys.argv[1:])
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(EXIT_BAD_INPUT)
    compose_and_train()


if __name__ == "__main__":
    main()
