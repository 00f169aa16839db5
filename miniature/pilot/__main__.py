"""``python -m miniature.pilot --model M --train F --heldout F``: which method for one's own model and data."""

from __future__ import annotations

import argparse
import json
import logging
import re
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal

from luffy.command_line import Positive, option, parse, run
from luffy.errors import InputError
from luffy.files import replacing, write_json
from miniature.comparison.cells import read_json
from miniature.comparison.methods import CONFIG, METHODS, SFT_RL, Method
from miniature.pilot.checks import begin, check_methods, compose, files_wrong
from miniature.pilot.climb import climb
from miniature.pilot.ladder import ROOM, Pace, Rung, affordable, ladder, seconds, survivors
from miniature.pilot.report import report
from miniature.pilot.runs import RL_MODULE, Runs, Task, full_command, with_folders

EXIT_FAILED = 1
DEFAULT = ("on_policy", SFT_RL, "luffy", "hpt", "chord_phi", "rl_plus")
PAPER_MODELS = sorted(file.stem for file in (CONFIG / "paper_model").glob("*.yaml"))
UNITS = {"h": 3600, "m": 60, "s": 1}

logger = logging.getLogger(__name__)


def duration(text: str) -> float:
    """Seconds of ``2h``, ``90m``, ``1.5h`` or ``600s``, as the type of an option."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([hms])", text)
    if not match or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; give hours, minutes or seconds, such as 2h, 90m or 600s")
    return float(match[1]) * UNITS[match[2]]


@dataclass(frozen=True)
class Usual:
    """What a profile takes where nothing is given; the pace is that of the embedded example, or of the paper's runs."""

    prompts: int
    prompt_tokens: int
    response_tokens: int
    temperature: float
    pace: Pace


USUAL = {
    "cpu": Usual(16, 64, 64, 1.0, Pace(start=90, step=4.0, measure=35)),  # seen on 2 cores
    "gpu": Usual(128, 1024, 8192, 0.6, Pace(start=600, step=554, measure=600)),  # 77 hours of 500 steps on 8 A100
}


@dataclass(frozen=True, kw_only=True)
class Pilot:
    """The flags."""

    model: str = option(help=f"folder of the start model, or one of the paper's: {', '.join(PAPER_MODELS)}")
    train: Path = option(help="training file (parquet, docs/data.md)")
    heldout: Path = option(help="held-out problems (parquet)")
    heldout2: Path | None = option(None, "other problems, on which forgetting is measured")
    methods: tuple[str, ...] = option(DEFAULT, f"of {', '.join(METHODS)}; SFT then RL is always among them")
    teacher: str | None = option(None, "model folder of a teacher, for the methods that learn from one")
    budget: Annotated[float, duration] = option(7200.0, "all of it, such as 2h or 90m; default: 2h", metavar="TIME")
    profile: Literal["cpu", "gpu"] = option("cpu", "the machine")
    rungs: Positive = option(2, "on each, half of the methods go on for twice the steps")
    steps: Positive | None = option(None, "of the last rung; default: a probe of a few steps says what the budget pays for")
    seeds: tuple[int, ...] = option((0,), "of each method's runs")
    prompts: Positive | None = option(None, "of a step; default: the profile's")
    prompt_tokens: Positive | None = option(None, "longest prompt; default: the profile's")
    response_tokens: Positive | None = option(None, "longest response; default: the profile's")
    samples: Positive = option(4, "answers to each held-out problem")
    overrides: tuple[str, ...] = option((), "Hydra overrides of reinforcement learning", metavar="KEY=VALUE")
    machine_overrides: tuple[str, ...] = option(
        (), "those of every training, as the set-up of this machine found them", metavar="KEY=VALUE"
    )
    output_dir: Path = option(Path("outputs/pilot"), "all files; started again, the pilot goes on where it was")
    dry_run: bool = option(False, "compose every method, print the plan, and start nothing")

    def __post_init__(self) -> None:
        if unknown := [name for name in self.methods if name not in METHODS]:
            raise InputError(f"--methods {unknown[0]}: there is no such method; choose of {', '.join(METHODS)}")
        if len(set(self.seeds)) < max(1, len(self.seeds)):
            raise InputError(f"--seeds {' '.join(map(str, self.seeds))}: give one or more different numbers")
        taught = [name for name in self.methods if METHODS[name].teacher]
        if taught and self.teacher is None:
            raise InputError(f"--methods {taught[0]} learns from a teacher: give --teacher MODEL, of the start model's vocabulary")

    @property
    def names(self) -> list[str]:
        """The methods in the order of tables, SFT then RL among them."""
        return [name for name in METHODS if name in {*self.methods, SFT_RL}]

    def task(self) -> Task:
        """What the runs are made from."""
        usual, is_paper = USUAL[self.profile], self.model in PAPER_MODELS
        chosen = (f"paper_model={self.model}",) if is_paper else (f"actor_rollout_ref.model.path={_absolute(self.model)}",)
        return with_folders(
            Task(
                model=_composed_path(self.profile, chosen) if is_paper else _absolute(self.model),
                model_overrides=chosen,
                train=self.train,
                heldout=self.heldout,
                heldout2=self.heldout2,
                teacher=None if self.teacher is None else _absolute(self.teacher),
                profile=self.profile,
                prompts=self.prompts or usual.prompts,
                prompt_tokens=self.prompt_tokens or usual.prompt_tokens,
                response_tokens=self.response_tokens or usual.response_tokens,
                samples=self.samples,
                temperature=usual.temperature,
                overrides=self.overrides,
                machine_overrides=self.machine_overrides,
            )
        )

    def identity(self, task: Task) -> dict[str, Any]:
        """What makes two starts the same pilot, as JSON values."""
        own = {"seeds": self.seeds, "rungs": self.rungs, "methods": self.names, "steps": self.steps}
        return json.loads(json.dumps(task.identity() | own))

    def usual_pace(self, prompts: int) -> Pace:
        """Of the profile, for so many prompts a step."""
        usual = USUAL[self.profile]
        return Pace(start=usual.pace.start, step=usual.pace.step * prompts / usual.prompts, measure=usual.pace.measure)


def _absolute(model: str) -> str:
    return str(Path(model).absolute()) if Path(model).is_dir() else model


def _composed_path(profile: str, chosen: Sequence[str]) -> str:
    return str(compose([RL_MODULE, f"profile={profile}", *chosen]).actor_rollout_ref.model.path)


def plan_text(pilot: Pilot, task: Task, rungs: Sequence[Rung], pace: Pace) -> str:
    """The plan, for a person."""
    whole = seconds(rungs, len(pilot.seeds), pace)
    lines = [f"{rung.methods} of {len(pilot.names)} methods up to step {rung.step}" for rung in rungs]
    commands = [f"{method.title:<18}{full_command(task, method)}" for method in map(METHODS.__getitem__, pilot.names)]
    return "\n".join(
        [
            f"model             {task.model}",
            f"methods           {', '.join(METHODS[name].title for name in pilot.names)}",
            f"a step            {task.prompts} prompts of up to {task.prompt_tokens} + {task.response_tokens} tokens",
            *(f"rung {number}            {line}" for number, line in enumerate(lines, start=1)),
            f"seeds             {', '.join(map(str, pilot.seeds))}",
            f"time              about {whole / 3600:.1f} hours of {pilot.budget / 3600:.1f}, at {pace.step:.0f} s a step",
            "the full runs:",
            *commands,
        ]
    )


def settled_steps(pilot: Pilot, runs: Runs) -> int:
    """Steps of the last rung: those given, or what the budget pays for at the pace of a probe; the same when started again."""
    file = runs.folder / "steps.json"
    if pilot.steps is not None:
        return pilot.steps
    if (known := read_json(file)) is None:
        start, step = runs.probe(_prober(pilot.names))
        spent = runs.spent
        pace = Pace(start=start, step=step, measure=USUAL[pilot.profile].pace.measure)
        steps = affordable(len(pilot.names), pilot.rungs, len(pilot.seeds), pilot.budget - spent / ROOM, pace)
        known = {"steps": steps, "start_seconds": start, "step_seconds": step}
        write_json(file, known)
    logger.info("probe: %.0f s around a run, %.1f s a step; the last rung ends at step %d", *(known[name] for name in PROBED))
    return int(known["steps"])


PROBED = ("start_seconds", "step_seconds", "steps")


def _prober(names: Sequence[str]) -> Method:
    """The method whose pace stands for all: LUFFY, or the first one without a start model or schedules of its own."""
    plain = {name: float(name == "luffy") for name in names if METHODS[name].experiment and not METHODS[name].starts_from}
    return METHODS[survivors(plain, 1)[0]] if plain else METHODS["on_policy"]


def main() -> int:
    """Run the command line; the exit code is 1 where no method has a result."""
    pilot = parse(
        Pilot, description="Which method for one's own model and data: a short comparison at equal budget.", prog="pilot.sh", dashes=True
    )
    task = pilot.task()
    pace = pilot.usual_pace(task.prompts)
    steps = pilot.steps or affordable(len(pilot.names), pilot.rungs, len(pilot.seeds), pilot.budget, pace)
    rungs = ladder(len(pilot.names), pilot.rungs, steps)
    missing = list(dict.fromkeys([*files_wrong(task), *check_methods(task, pilot.names, rungs)]))
    if pilot.dry_run:
        sys.stdout.write(plan_text(pilot, task, rungs, pace) + "\n" + "".join(f"not ready here: {line}\n" for line in missing))
        return 0
    for line in missing:
        raise InputError(line)
    folder = pilot.output_dir.absolute()
    begin(folder, pilot.identity(task))
    runs = Runs(task, folder)
    rungs = ladder(len(pilot.names), pilot.rungs, settled_steps(pilot, runs))
    found = climb(runs, pilot.names, rungs, pilot.seeds, pilot.budget)
    page = report(found, runs, rungs, pilot.seeds, budget=pilot.budget)
    with replacing(folder / "report.md") as temporary:
        temporary.write_text(page, encoding="utf-8")
    sys.stdout.write(page)
    return 0 if found.rungs else EXIT_FAILED


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupt)  # ends the run that is going on, too
    run(main)
