"""Slow: faults injected into whole runs on the real engine (``make soak``).

``SOAK_STEPS`` (300) and ``SOAK_EVERY`` (20) are the length of the soak and the steps from one fault to the next.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import psutil
import pytest

from luffy.record import read_facts, record_file
from luffy.safety import Phase
from verl.mix_src.run.processes import RUN_NAME
from verl.mix_src.run.stalls import told
from verl.mix_src.upstream import FORK_SERVER

pytestmark = [pytest.mark.integration, pytest.mark.alone, pytest.mark.soak]

STEPS, EVERY = int(os.environ.get("SOAK_STEPS", 300)), int(os.environ.get("SOAK_EVERY", 20))
LEAST_S = 15
STARTS_WITHIN_S, A_STEP_WITHIN_S, ENDS_WITHIN_S = 480, 30, 90  # limits of a hang, on a machine with two runs
TIMES_AND_MEMORY = ("timing", "perf/", "memory", "time")
STARTED: list[LivingRun] = []


def command(example, folder: Path, *overrides: str) -> list[str]:
    return [
        sys.executable, "-m", "verl.mix_src.main_mix_ppo", "profile=cpu", "trainer.test_freq=-1", "trainer.val_before_train=false",
        f"data.train_files={example.train}", f"data.val_files={example.heldout}", f"actor_rollout_ref.model.path={example.model}",
        f"trainer.default_local_dir={folder}", f"luffy.safety.least_s={LEAST_S}", *overrides,
    ]  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """A test that fails leaves no run behind."""
    yield
    for run in STARTED:
        if run.process.poll() is None:
            run.process.terminate()
            run.end()
    STARTED.clear()


class LivingRun:
    """A run that was started, and its parts."""

    def __init__(self, example, folder: Path, *overrides: str) -> None:
        self.folder = folder
        self.output = (folder.parent / f"{folder.name}.console").open("a")
        self.process = subprocess.Popen(command(example, folder, *overrides), stdout=self.output, stderr=self.output)
        STARTED.append(self)

    @property
    def console(self) -> str:
        return Path(self.output.name).read_text()

    def parts(self) -> dict[str, psutil.Process]:
        """Living processes by their titles, of several one."""
        found = {}
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                found[(process.cmdline() or [process.name()])[0].rsplit("/", 1)[-1].split(".")[0]] = process
            except psutil.Error:
                continue
        return found

    def steps(self) -> int:
        metrics = self.folder / "metrics.jsonl"
        return json.loads(metrics.read_bytes().splitlines()[-1])["step"] if metrics.exists() and metrics.stat().st_size else 0

    def wait_for(self, condition: Callable[[], bool], every_s: float = 0.2) -> None:
        deadline = time.monotonic() + STARTS_WITHIN_S + A_STEP_WITHIN_S * EVERY
        while not condition():
            assert self.process.poll() is None and time.monotonic() < deadline, self.console[-3000:]
            time.sleep(every_s)

    def wait_for_phase(self, phase: Phase) -> None:
        """Return at once where a phase begins."""
        name = self.parts()["ray::WorkerDict"].environ()[RUN_NAME]
        self.wait_for(lambda: (said := told(name)) is not None and said.phase is not phase, every_s=0.001)
        self.wait_for(lambda: told(name).phase is phase, every_s=0.0005)

    def end(self) -> int:
        """Wait for the end, and look that nothing is left."""
        below = psutil.Process(self.process.pid).children(recursive=True) if self.process.poll() is None else []
        code = self.process.wait(ENDS_WITHIN_S)
        _, alive = psutil.wait_procs(below, timeout=ENDS_WITHIN_S)
        assert alive == []
        return code


STOPPED = [
    ("VLLM::EngineCore", "a rollout engine (vLLM)", Phase.ROLLOUT),
    ("VLLM::EngineCore", "a rollout engine (vLLM)", Phase.WEIGHT_SYNC),
    ("ray::WorkerDict", "an actor worker (FSDP)", Phase.UPDATE),
    ("ray::WorkerDict", "an actor worker (FSDP)", Phase.WEIGHT_SYNC),
    ("ray::WorkerDict", "an actor worker (FSDP)", Phase.CHECKPOINT),
    ("ray::vLLMHttpServer", "a rollout server (vLLM)", Phase.ROLLOUT),
    ("ray::MixAgentLoopWorker", "an agent loop worker", Phase.ROLLOUT),
    ("ray::RewardLoopWorker", "a reward worker", Phase.ROLLOUT),
    ("ray::SimpleStorageUnit", "a TransferQueue storage unit", Phase.UPDATE),
    ("ray::TransferQueueController", "the TransferQueue controller", Phase.ROLLOUT),
    ("ray::TaskRunnerV1", "the trainer", Phase.RECORD),
    ("raylet", "Ray's node manager", Phase.ROLLOUT),
]


def ends_when_stopped(run: LivingRun, part: psutil.Process, name: str, where: str) -> None:
    """Stop a part: the run ends by itself, with the phase (a pattern), the part and its stack, of Python or the kernel."""
    part.suspend()
    stopped = time.monotonic()
    assert run.end() == 1
    sys.stdout.write(f"{name}: {time.monotonic() - stopped:.0f} s\n{run.console[-1500:]}\n")
    line = run.console.strip().splitlines()[-1]
    assert re.match(rf"error: the run stalled: the {where} has made no progress for \d+ s", line)
    assert f"{name}, process {part.pid}, is stopped" in line
    assert f"{name}, process {part.pid}:\n" in run.console
    assert time.monotonic() - stopped < LEAST_S + 40


@pytest.mark.parametrize(("title", "name", "phase"), STOPPED, ids=[f"{title.split(':')[-1]} in {phase}" for title, _, phase in STOPPED])
def test_a_stopped_part_ends_the_run_with_its_name_and_stack(title: str, name: str, phase: Phase, tiny_example, tmp_path: Path) -> None:
    run = LivingRun(tiny_example, tmp_path / "run", "trainer.total_training_steps=1000", "trainer.save_freq=1")
    run.wait_for(lambda: run.steps() >= 2)
    run.wait_for_phase(phase)
    part = run.parts()[title]
    ends_when_stopped(run, part, name, r".* of step \d+")


def test_a_stopped_fork_server_ends_the_start(tiny_example, tmp_path: Path) -> None:
    run = LivingRun(tiny_example, tmp_path / "run", "trainer.total_training_steps=1000")
    found: list[psutil.Process] = []

    def serves() -> bool:
        children = psutil.Process(run.process.pid).children()
        found.extend(process for process in children if FORK_SERVER in " ".join(process.cmdline()))
        return bool(found)

    run.wait_for(serves)
    ends_when_stopped(run, found[0], "the fork server of Ray's workers", "start")


def test_a_stopped_head_is_told_and_the_run_goes_on_and_ends(tiny_example, tmp_path: Path) -> None:
    """Between the start and the end nobody asks Ray's head: no phase stalls, and Ctrl-C does not wait for it for ever."""
    run = LivingRun(tiny_example, tmp_path / "run", "trainer.total_training_steps=1000", "trainer.save_freq=1000")
    run.wait_for(lambda: run.steps() >= 2)
    head = run.parts()["gcs_server"]
    head.suspend()
    line = f"Ray's head, process {head.pid}, is stopped (SIGCONT lets it go on); the training goes on without it so far"
    run.wait_for(lambda: line in run.console)
    steps = run.steps()
    run.wait_for(lambda: run.steps() >= steps + 2)
    assert run.console.count(line) == 1
    interrupted(run)
    asked = time.monotonic()
    assert run.end() == 130
    sys.stdout.write(f"a stopped head: {time.monotonic() - asked:.0f} s from Ctrl-C to the end\n")


def killed(title: str | None) -> Callable[[LivingRun], None]:
    """A fault: a part, or the driver, is gone."""

    def fault(run: LivingRun) -> None:
        (psutil.Process(run.process.pid) if title is None else run.parts()[title]).kill()

    fault.__name__ = f"killed {title or 'the driver'}"
    return fault


def stopped_engine(run: LivingRun) -> None:
    run.parts()["VLLM::EngineCore"].suspend()


def truncated(run: LivingRun) -> None:
    """The driver is gone, and the newest checkpoint is cut off."""
    run.process.kill()
    run.end()
    newest = max(run.folder.glob("global_step_*"), key=lambda each: int(each.name.rpartition("_")[2]))
    shard = newest / "actor" / "model_world_size_1_rank_0.pt"
    os.truncate(shard, shard.stat().st_size // 2)


def interrupted(run: LivingRun) -> None:
    run.process.send_signal(signal.SIGINT)


FAULTS = (
    killed(None), killed("ray::WorkerDict"), killed("VLLM::EngineCore"), killed("ray::TaskRunnerV1"), killed("raylet"), killed("gcs_server"),
    stopped_engine, truncated, interrupted,
)  # fmt: skip


def _comparable(folder: Path, steps: int = STEPS) -> dict[int, dict[str, float]]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(1, steps + 1))  # every step once
    return {
        record["step"]: {name: value for name, value in record["data"].items() if not any(part in name for part in TIMES_AND_MEMORY)}
        for record in records
    }


RESUMED, A_PASS, SAVED = 8, 3, 2  # steps; of a pass over the data; from one save to the next
CHANGING = (
    f"trainer.total_training_steps={RESUMED}", f"trainer.save_freq={SAVED}", f"data.train_max_samples={16 * A_PASS}",
    "luffy.entropy.mode=learned", "luffy.entropy.coefficient=0.01", "luffy.guidance.schedule=random",
    "luffy.guidance.min_ratio={shape: linear, start: 0.2, end: 1.0, until: 8}", "luffy.record.every=1", "luffy.record.groups=16",
)  # fmt: skip


LOGGERS = ["console", "file", "tensorboard", "wandb", *(["trackio"] if find_spec("trackio") else [])]


def test_what_changes_over_a_run_goes_on_after_a_kill(tiny_example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The learned entropy coefficient, the order of the data over the ends of passes, a schedule of guidance, and the loggers' runs."""
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))  # no key of wandb
    logged = [*CHANGING, f"trainer.logger=[{','.join(LOGGERS)}]"]
    whole = LivingRun(tiny_example, tmp_path / "whole", *CHANGING, "trainer.experiment_name=changing")
    assert whole.process.wait(STARTS_WITHIN_S + A_STEP_WITHIN_S * RESUMED) == 0, whole.console[-2000:]
    broken = LivingRun(tiny_example, tmp_path / "broken", *logged, "trainer.experiment_name=changing")
    broken.wait_for(lambda: broken.steps() >= 5)
    broken.process.kill()
    broken.end()
    assert not (broken.folder / "global_step_6").exists()
    last = LivingRun(tiny_example, tmp_path / "broken", *logged, "trainer.experiment_name=changing")
    assert last.process.wait(STARTS_WITHIN_S + A_STEP_WITHIN_S * RESUMED) == 0, last.console[-2000:]
    assert "goes on after step 4" in last.console
    expected = _comparable(whole.folder, RESUMED)
    assert _comparable(broken.folder, RESUMED) == expected
    assert len({data["actor/entropy_coefficient"] for data in expected.values()}) == RESUMED
    ratios = [data["off_policy/prefix_ratio"] for data in expected.values()]
    assert ratios[0] < 0.8 < ratios[-1] and len(set(ratios)) == RESUMED
    prompts = [_prompts(whole.folder, step) for step in range(1, RESUMED + 1)]
    assert prompts == [_prompts(broken.folder, step) for step in range(1, RESUMED + 1)]
    passes = [list(chain.from_iterable(prompts[start : start + A_PASS])) for start in (0, A_PASS)]
    assert len(set(passes[0])) == 16 * A_PASS and set(passes[1]) == set(passes[0])
    assert set(prompts[A_PASS]) != set(prompts[0])  # the second pass has an order of its own
    number = json.loads((broken.folder / "run.json").read_text())["wandb_run_id"]
    offline = [path.name for path in (broken.folder / "wandb" / "wandb").glob("offline-run-*")]
    assert len(offline) == 2 and all(name.endswith(f"-{number}") for name in offline)
    assert len(list((broken.folder / "tensorboard").glob("**/events.out.tfevents.*"))) == 2
    if "trackio" in LOGGERS:
        with closing(sqlite3.connect(next((broken.folder / "trackio").glob("*.db")))) as base:
            assert base.execute("select count(distinct run_id) from metrics").fetchone() == (1,)
            steps = {step for (step,) in base.execute("select step from metrics")}
        assert steps == set(range(1, RESUMED + 1))


def _prompts(folder: Path, step: int) -> list[float]:
    """The prompts of a step, by key."""
    return sorted(rows[0]["prompt_key"] for rows in read_facts(record_file(folder, step)))


def test_a_run_with_a_fault_every_few_steps_is_the_unbroken_run(tiny_example, tmp_path: Path) -> None:
    draw, overrides = random.Random(0), (f"trainer.total_training_steps={STEPS}", "trainer.save_freq=2", "data.train_batch_size=4")
    whole = LivingRun(tiny_example, tmp_path / "whole", *overrides, "trainer.experiment_name=soak")
    assert whole.process.wait(STARTS_WITHIN_S + A_STEP_WITHIN_S * STEPS) == 0, whole.console[-2000:]
    broken, faults = tmp_path / "broken", 0
    for at in range(EVERY, STEPS, EVERY):
        run = LivingRun(tiny_example, broken, *overrides, "trainer.experiment_name=soak")
        run.wait_for(lambda run=run, at=at: run.steps() >= at)
        fault = draw.choice(FAULTS)
        time.sleep(draw.uniform(0, 3))
        sys.stdout.write(f"step {run.steps()}: {fault.__name__}\n")
        fault(run)
        run.end()
        faults += 1
    last = LivingRun(tiny_example, broken, *overrides, "trainer.experiment_name=soak")
    assert last.process.wait(STARTS_WITHIN_S + A_STEP_WITHIN_S * STEPS) == 0, last.console[-2000:]
    expected, found = _comparable(tmp_path / "whole"), _comparable(broken)
    short = [step for step in found if len(found[step]) < len(expected[step])]  # saved, and killed before its line was written
    assert len(short) <= faults
    for step in expected:
        assert found[step] == {name: expected[step][name] for name in found[step]}, step  # to the last digit
