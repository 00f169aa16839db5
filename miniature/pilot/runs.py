"""The pilot's runs: their commands, folders and results. A run goes on from its checkpoint on each rung."""

from __future__ import annotations

import logging
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from luffy.evaluation.results import read_result
from luffy.files import write_json
from luffy.ledger import Ledger, read_ledger
from luffy.models import parameter_count
from luffy.training_report import read_metrics
from miniature.comparison.cells import read_json
from miniature.comparison.methods import FULL_STEPS, METHODS, Method

ROOT = Path(__file__).parents[2]
RL_MODULE, SFT_MODULE, ANSWERS_MODULE = "verl.mix_src.main_mix_ppo", "verl.mix_src.main_sft", "miniature.pilot.answers"
HELDOUT, HELDOUT2 = "heldout", "heldout2"
PROBE, PROBE_STEPS = "probe", 3
BASE = "base"
MEASURED = "took_answers.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Task:
    """What the pilot is asked about; all of it decides the results.

    Attributes:
        model: folder of the start model.
        model_overrides: Hydra overrides of reinforcement learning that choose it.
        train: training file.
        heldout, heldout2: files of problems.
        teacher: model folder for the methods that learn from one; None: there is none.
        profile: cpu or gpu.
        prompts: of a step.
        prompt_tokens, response_tokens: budgets.
        samples, temperature: answers to each held-out problem.
        overrides: further Hydra overrides of reinforcement learning.
        machine_overrides: those that this machine needs for every training.
    """

    model: str
    model_overrides: tuple[str, ...]
    train: Path
    heldout: Path
    heldout2: Path | None
    teacher: str | None
    profile: str
    prompts: int
    prompt_tokens: int
    response_tokens: int
    samples: int
    temperature: float
    overrides: tuple[str, ...] = ()
    machine_overrides: tuple[str, ...] = ()

    def identity(self) -> dict[str, Any]:
        """As JSON values."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}


def training_command(task: Task, method: Method, *, steps: int, last: int, seed: int, folder: Path, model: str | None = None) -> list[str]:
    """Module and arguments that train a method up to a step, for ``python -m``.

    Args:
        task: the pilot's.
        method: which.
        steps: the step.
        last: the last step of the whole ladder, to which schedules are scaled.
        seed: of the training.
        folder: of the run.
        model: another start model.
    """
    shared = [
        f"profile={task.profile}",
        f"luffy.run.seed={seed}",
        f"trainer.total_training_steps={steps}",
        "trainer.total_epochs=1000",
        f"trainer.default_local_dir={folder}",
        f"trainer.save_freq={steps}",
        f"data.train_files={task.train}",
        "data.val_files=null",
        f"data.train_batch_size={task.prompts}",
        f"data.max_response_length={task.response_tokens}",
        *task.machine_overrides,
    ]
    if method.experiment is None:
        length = f"data.max_length={task.prompt_tokens + task.response_tokens}"
        return [SFT_MODULE, *shared, f"model.path={model or task.model}", length, "optim.lr_scheduler_type=constant"]
    start = task.model_overrides if model is None else (*task.model_overrides, f"actor_rollout_ref.model.path={model}")
    return [
        RL_MODULE,
        *shared,
        f"experiment={method.experiment}",
        *dict.fromkeys(start),
        f"data.max_prompt_length={task.prompt_tokens}",
        "trainer.test_freq=-1",
        "luffy.record.every=0",
        *((f"luffy.teacher.path={task.teacher}",) if method.teacher else ()),
        *method.scaled(last),
        *task.overrides,
    ]


def full_command(task: Task, method: Method) -> str:
    """What trains the method whole, for a shell."""
    data = [f"data.train_files={task.train}", f"data.val_files={task.heldout}"]
    rl = [*task.model_overrides, *data, *((f"luffy.teacher.path={task.teacher}",) if method.teacher else ()), *task.overrides]
    sft = [f"model.path={task.model}", *data]
    train_sft = f"bash exp_scripts/train_sft.sh {shlex.join(sft)}"
    if method.experiment is None:
        return train_sft
    if method.starts_from:
        rest = [*data, *task.overrides]
        return (
            f"{train_sft} trainer.default_local_dir=outputs/sft && SFT_RUN=outputs/sft bash exp_scripts/train_sft_rl.sh {shlex.join(rest)}"
        )
    return f"bash exp_scripts/train_method.sh {method.name} {shlex.join(rl)}"


class RunFailed(Exception):
    """A training or a measurement has failed; the message says which, and where to look."""


class Runs:
    """Trains and measures, one run after another; what is done already is not done again.

    Args:
        task: the pilot's.
        folder: of all files.
        launcher: what starts a module: ``-m``, its name and arguments are appended.
    """

    def __init__(self, task: Task, folder: Path, *, launcher: Sequence[str] = (sys.executable,)) -> None:
        self.task, self.folder, self._launcher = task, folder, launcher

    @property
    def spent(self) -> float:
        """Seconds of all that was started so far, by this process or one before it."""
        return sum(read_json(file)["seconds"] for file in self.folder.rglob("took_*.json"))

    def run_folder(self, name: str, seed: int) -> Path:
        """Folder of a method's run."""
        return self.folder / "runs" / name / f"seed{seed}"

    def train(self, name: str, seed: int, *, steps: int, first: int, last: int) -> Path:
        """Train a method up to ``steps`` of a ladder whose rungs end at ``first``, ..., ``last``; returns the model's folder.

        SFT then RL spends half of the first rung on SFT.

        Raises:
            RunFailed: with the place of the console's text.
        """
        method, folder = METHODS[name], self.run_folder(name, seed)
        if not method.starts_from:
            return self._train(method, seed, folder, steps=steps, last=last)
        before = first // 2
        start = self._train(METHODS[method.starts_from], seed, folder / method.starts_from, steps=before, last=last)
        return self._train(method, seed, folder, steps=steps - before, last=last, model=str(start))

    def _train(self, method: Method, seed: int, folder: Path, *, steps: int, last: int, model: str | None = None) -> Path:
        inside = "huggingface" if method.experiment is None else "actor/huggingface"
        trained = folder / f"global_step_{steps}" / inside
        if not (folder / f"took_{steps}.json").is_file():
            command = training_command(self.task, method, steps=steps, last=last, seed=seed, folder=folder, model=model)
            self._start(["-m", *command], folder, f"took_{steps}.json", trained.is_dir)
        return trained

    def measure(self, name: str, seed: int, step: int, model: str) -> dict[str, np.ndarray]:
        """Scores [P] of a model on each held-out set, by the set's name."""
        folder = self.folder / "answers" / name / f"seed{seed}" / f"step{step}"
        files = {each: file for each, file in ((HELDOUT, self.task.heldout), (HELDOUT2, self.task.heldout2)) if file is not None}
        outputs = {each: folder / f"{each}.jsonl" for each in files}
        if not (folder / MEASURED).is_file():
            command = ["-m", ANSWERS_MODULE, "--model_path", model, "--output_dir", str(folder), "--n", str(self.task.samples)]
            command += ["--temperature", str(self.task.temperature), "--max_tokens", str(self.task.response_tokens)]
            command += ["--files", *(f"{each}={file}" for each, file in files.items())]
            self._start(command, folder, MEASURED, lambda: all(output.is_file() for output in outputs.values()))
        results = {each: read_result(output).benchmarks.values() for each, output in outputs.items()}
        return {each: np.array([score for result in found for score in result.scores()]) for each, found in results.items()}

    def ledger(self, name: str, seed: int) -> Ledger:
        """What a method's run has cost so far."""
        folder = self.run_folder(name, seed)
        files = [file for file in (folder / "metrics.jsonl", folder / str(METHODS[name].starts_from) / "metrics.jsonl") if file.is_file()]
        return sum((read_ledger(read_metrics(file)) for file in files), Ledger())

    def seconds(self, name: str, seed: int) -> float:
        """What a method's trainings took, starts included."""
        return sum(read_json(file)["seconds"] for file in self.run_folder(name, seed).rglob("took_*.json"))

    def parameters(self) -> int:
        """Of the start model."""
        return parameter_count(Path(self.task.model))

    def probe(self, method: Method) -> tuple[float, float]:
        """Seconds that a training takes around its steps, and those of a step, from a run of a few."""
        folder = self.folder / PROBE
        self._train(method, 0, folder, steps=PROBE_STEPS, last=FULL_STEPS)
        steps = [record["data"]["timing_s/step"] for record in read_metrics(folder / "metrics.jsonl") if "timing_s/step" in record["data"]]
        whole = read_json(folder / f"took_{PROBE_STEPS}.json")["seconds"]
        return max(0.0, whole - sum(steps)), median(steps[1:])  # the first one compiles and warms up

    def _start(self, command: Sequence[str], folder: Path, mark: str, done: Callable[[], bool]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        begin, console = time.monotonic(), folder / "console.log"
        logger.info("%s", folder.relative_to(self.folder))
        with (
            console.open("ab") as out,
            subprocess.Popen([*self._launcher, *command], stdout=out, stderr=subprocess.STDOUT, cwd=ROOT) as process,
        ):
            try:
                code = process.wait()
            except KeyboardInterrupt:
                process.terminate()
                process.wait()
                raise
        if code or not done():
            raise RunFailed(f"{folder.relative_to(self.folder)}: ended with exit code {code}; see {console}")
        write_json(folder / mark, {"seconds": time.monotonic() - begin})


def with_folders(task: Task) -> Task:
    """The task with absolute paths, as its runs start in the project's folder."""
    paths = {name: path.absolute() for name in ("train", HELDOUT, HELDOUT2) if (path := getattr(task, name)) is not None}
    return replace(task, **paths)
