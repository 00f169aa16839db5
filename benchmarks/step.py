#!/usr/bin/env python3
"""Seconds of a training step beside veRL's own GRPO on the same engine and configuration (CPU, the embedded example).

    python benchmarks/step.py [--steps 12] [--rounds 2]      about 15 minutes on 2 cores

Four trainings take turns, so that a disturbed machine disturbs all: LUFFY; LUFFY with every forward pass (``luffy.run.own_pass=false
leave_out=nothing``); GRPO by veRL's trainer, agent loop, loss, workers and a function of two lines as its reward; and the same with the
profile's ``poll_interval_s``. All of them have the composed config of ``profile=cpu``: the same model, prompts, rows, lengths,
micro-batches, rollout engine and learning rate, no validation and no checkpoint. LUFFY's trainer looks for finished rollouts every 0.1 s
(the profile's ``poll_interval_s``), veRL's every 2 s, as it is. One row in eight of LUFFY's is a demonstration, which is not sampled.

A run's figure is the median of its steps from the fourth on. A ratio is of two runs of one round; shown is the mean of the rounds, and
the smallest and the largest. Expected: LUFFY at most 0.85 of GRPO.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIRST = 4  # steps before it are warm-up
LUFFY, EVERY_PASS, GRPO, GRPO_OFTEN = "LUFFY", "LUFFY, every pass", "veRL GRPO", "the same, 0.1 s poll"
ARGUMENTS = {
    LUFFY: ["-m", "verl.mix_src.main_mix_ppo"],
    EVERY_PASS: ["-m", "verl.mix_src.main_mix_ppo", "luffy.run.own_pass=false", "luffy.run.leave_out=nothing"],
    GRPO: [__file__, "--stock"],
    GRPO_OFTEN: [__file__, "--stock-often"],
}
PHASES = ("step", "gen", "old_log_prob", "update_actor", "update_weights")
STOCK = {
    "algorithm.adv_estimator": "grpo",
    "actor_rollout_ref.rollout.agent.default_agent_loop": "single_turn_agent",
    "actor_rollout_ref.rollout.agent.agent_loop_manager_class": None,
    "data.custom_cls.path": None,
    "data.custom_cls.name": None,
    "reward.reward_manager.source": "register",
    "reward.reward_manager.name": "naive",
    "reward.custom_reward_function.path": str(Path(__file__).resolve()),
    "reward.custom_reward_function.name": "reward",
}


def reward(data_source: str, solution_str: str, ground_truth: str, extra_info: object = None, **_: object) -> float:
    """Whether what follows ``>`` is the gold answer."""
    return float(solution_str.rpartition(">")[2].strip() == ground_truth)


def stock(poll_s: float | None) -> None:
    """Train with veRL's own trainer, in the place of ``main_mix_ppo``; it looks for rollouts every ``poll_s`` seconds, if given."""
    import ray
    from omegaconf import DictConfig, OmegaConf, open_dict
    from verl.trainer.main_ppo import TaskRunnerV1
    from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

    from verl.mix_src.main_mix_ppo import ReinforcementLearning
    from verl.mix_src.run.entry import command

    plain = TaskRunnerV1.__ray_metadata__.modified_class

    class Polling(plain):
        """veRL's task runner, which looks for rollouts more often."""

        def run(self, config: DictConfig) -> None:
            """Train."""
            defaults = list(ReplayBuffer.__init__.__defaults__)
            ReplayBuffer.__init__.__defaults__ = tuple(poll_s if each == 2.0 else each for each in defaults)
            super().run(config)

    class Grpo(ReinforcementLearning):
        """veRL's training, started and watched as all runs are."""

        config_checks, machine_checks = (), ()

        def __init__(self, config: DictConfig) -> None:
            with open_dict(config):
                for key, value in STOCK.items():
                    OmegaConf.update(config, key, value, merge=False)
            super().__init__(config)

        def runner(self) -> object:
            """Of veRL, as it is."""
            return ray.remote(Polling) if poll_s else TaskRunnerV1

    command(Grpo)


def train(name: str, folder: Path, steps: int) -> dict[str, float]:
    """Median seconds of each phase of a run."""
    overrides = [
        "profile=cpu", f"trainer.total_training_steps={steps}", "trainer.save_freq=-1", "trainer.test_freq=-1",
        "trainer.val_before_train=false", "luffy.record.every=0", f"trainer.default_local_dir={folder}", "trainer.experiment_name=bench",
    ]  # fmt: skip
    program, *own = ARGUMENTS[name]
    command = [sys.executable, program, *own[:1], *overrides, *own[1:]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps_of = [each["data"] for each in records if each["step"] >= FIRST and "timing_s/step" in each["data"]]
    medians = {phase: statistics.median(each.get(f"timing_s/{phase}", 0.0) for each in steps_of) for phase in PHASES}
    left_out = [each.get("batch/left_out_share", 0.0) for each in steps_of]
    return medians | {"left out": sum(left_out) / len(left_out)}


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """The figures of all runs."""
    columns = (*PHASES, "left out")
    against = (GRPO, GRPO_OFTEN)
    titles = ("/ GRPO", "/ the same, 0.1 s poll")
    lines = [f"{'seconds, median':24}" + "".join(f"{each:>16}" for each in columns) + "".join(f"{each:>26}" for each in titles)]
    for name, runs in found.items():
        values = "".join(f"{statistics.mean(run[column] for run in runs):16.2f}" for column in columns)
        ratios = [[run["step"] / other["step"] for run, other in zip(runs, found[each], strict=True)] for each in against]
        shown = "".join(f"{f'{statistics.mean(each):.2f} ({min(each):.2f} to {max(each):.2f})':>26}" for each in ratios)
        lines.append(f"{name:24}{values}{shown}")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12, help="of a run; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each; default: %(default)s")
    parser.add_argument("--keep", type=Path, help="a folder that keeps the runs")
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ARGUMENTS}
    with tempfile.TemporaryDirectory(prefix="luffy-bench-") as temporary:
        for number in range(arguments.rounds):
            for name in ARGUMENTS:
                folder = (arguments.keep or Path(temporary)).resolve() / f"{name}{number}".replace(" ", "_").replace(",", "")
                found[name].append(train(name, folder, arguments.steps))
                print(f"{name}: {found[name][-1]['step']:.2f} s a step", file=sys.stderr)
    print(table(found))


if __name__ == "__main__":
    if sys.argv[1:2] in (["--stock"], ["--stock-often"]):
        stock(0.1 if sys.argv.pop(1) == "--stock-often" else None)
    else:
        main()
