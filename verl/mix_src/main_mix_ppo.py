"""Train: ``python -m verl.mix_src.main_mix_ppo [profile=cpu|gpu] [experiment=NAME] [Hydra overrides]``.

``dry_run=true`` composes, checks and shows the run without starting it. What trains is imported when a training starts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import ray
from omegaconf import DictConfig, OmegaConf, open_dict
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from luffy.progress import Bar
from verl.mix_src.config import luffy_config
from verl.mix_src.run import forkserver, loggers, nodes, preflight
from verl.mix_src.run.console import Progress
from verl.mix_src.run.data import make_definite
from verl.mix_src.run.entry import Run, RunFailed, command
from verl.mix_src.run.processes import RUN_NAME, Watch, new_run_name, remove_sockets
from verl.mix_src.run.sockets import keep_to_this_machine
from verl.mix_src.run.stalls import StallWatch, remove_phase
from verl.mix_src.upstream import METRICS_FILE

RUNTIME = "ray_kwargs.ray_init.runtime_env"


def cpu_threads() -> dict[str, str]:
    """What keeps each process of a run on a CPU to its share of the cores."""
    return {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}


class ReinforcementLearning(Run):
    """A training on Ray: veRL's task runner as one actor, in which the whole training runs."""

    config_module, config_name = "verl.mix_src.config", "mix_ppo"
    config_checks, machine_checks = preflight.RL_CONFIG, preflight.RL_MACHINE
    starts = 3  # Ray's node manager ends where a helper of its own needs over 15 s to start; no setting of Ray's changes that

    def __init__(self, config: DictConfig) -> None:
        super().__init__(config)
        self.name, self.here = new_run_name(), None
        self._forks: forkserver.ForkServer | None = None

    def join(self) -> None:
        """Of a Ray cluster that is there already: check it, and keep the task runner on this machine."""
        if nodes.joins_a_cluster():
            nodes.prepare_to_join(self.config)
            self.here = NodeAffinitySchedulingStrategy(nodes.check_cluster(nodes.absolute_paths(self.config)), soft=False)

    def prepare(self) -> None:
        """Settle validation, and the environment of every Ray worker, also of those on other nodes."""
        config = self.config
        if not nodes.joins_a_cluster():
            keep_to_this_machine()
        make_definite(config, self.files)
        variables = {RUN_NAME: self.name, METRICS_FILE: str(self.files.metrics.resolve()), "HYDRA_FULL_ERROR": "1"}
        variables |= loggers.environment(config, self.files)
        if config.trainer.device == "cpu":
            variables |= cpu_threads()
        with open_dict(config):
            given = OmegaConf.select(config, f"{RUNTIME}.env_vars") or {}
            OmegaConf.update(config, f"{RUNTIME}.env_vars", {**variables, **given}, merge=True, force_add=True)
        for name, value in {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_DEDUP_LOGS": "0",
            "RAY_worker_niceness": "0",  # Ray's 15 yields to everything else on the machine
            "RAY_agent_register_timeout_ms": "180000",  # Ray's 30 s, and 60 s for a worker, end the start of a run
            "RAY_worker_register_timeout_seconds": "180",  # on a busy machine
        }.items():
            os.environ.setdefault(name, value)

    @property
    def elsewhere(self) -> Callable[[], Mapping[str, str]]:
        return nodes.ClusterParts().living if nodes.joins_a_cluster() else dict

    def stalls(self, console: TextIO) -> StallWatch:
        remove_phase(self.name)
        return StallWatch(luffy_config(self.config).safety, self.name, lambda line: Bar.write(line, file=console))

    def train(self, console: TextIO, watch: Watch) -> None:
        config = nodes.absolute_paths(self.config)
        self.warm_up()  # the server of a try before has ended with it
        if self._forks is not None:
            config.ray_kwargs.ray_init.runtime_env.py_executable = self._forks.command
        from verl.trainer.main_ppo import run_ppo

        try:
            safety = luffy_config(self.config).safety
            with Progress(console, self.files.metrics, self.steps(), watch, self.files.first_step(self.config), safety):
                run_ppo(config, task_runner_class=self.runner())
                watch.ending.set()
        except ray.exceptions.RayError as error:
            raise RunFailed from error

    def warm_up(self) -> None:
        if self.may_fork and (self._forks is None or not self._forks.is_up()):
            from verl.trainer.constants_ppo import get_ppo_ray_runtime_env

            given = OmegaConf.select(self.config, f"{RUNTIME}.env_vars") or {}
            self._forks = forkserver.ForkServer({**get_ppo_ray_runtime_env(self.config)["env_vars"], **cpu_threads(), **given})

    @property
    def may_fork(self) -> bool:
        """Whether Ray's workers may be forked: on one machine, where the user's runtime environment sets nothing but variables."""
        given = OmegaConf.select(self.config, RUNTIME) or {}
        others = {name for name, value in given.items() if value is not None} - {"env_vars"}
        wanted = luffy_config(self.config).run.fork_workers and self.config.trainer.device == "cpu"
        return wanted and not nodes.joins_a_cluster() and not others

    def runner(self) -> Any:
        """The actor's class, and where it is placed."""
        from verl.mix_src.rl.trainer import MixTaskRunner

        return ray.remote(scheduling_strategy=self.here)(MixTaskRunner) if self.here else ray.remote(MixTaskRunner)

    def is_up(self) -> bool:
        return ray.is_initialized()

    def close(self) -> None:
        ray.shutdown()
        remove_sockets(self.name)
        remove_phase(self.name)


def main() -> None:
    """Entry point."""
    command(ReinforcementLearning)


if __name__ == "__main__":
    main()
