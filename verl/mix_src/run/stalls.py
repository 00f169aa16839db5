"""What a training does now, and what is done where it does nothing: a line that says what is waited for, and at last an end.

The trainer says at each change of its phase what comes next (:func:`begin`), in a small file in memory, which a full or hanging disk
does not touch. The main process looks at it once a second (:class:`StallWatch`). Bounds are those of :class:`luffy.safety.SafetyConfig`,
narrowed by what the phases of this start have taken. Time in which the main process itself is stopped (Ctrl-Z, a suspended
machine) does not count.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from luffy.files import replacing
from luffy.safety import Phase, SafetyConfig
from verl.mix_src.run.processes import POLL_S, RUN_NAME, SHARED_MEMORY
from verl.mix_src.upstream import ACTORS, ENGINE_NAME, ENGINE_WORKER_NAME, RANK_NAME

logger = logging.getLogger(__name__)

STACK_WITHIN_S = 20
STACK_LINES = 12
MOST_STACKS = 8  # in the log; the console shows the first
LONGEST_POLL_S = 5 * POLL_S
_CHANGES = itertools.count(1)

TRAINER, ENGINE_PARTS = ACTORS["TaskRunnerV1"], (ENGINE_NAME, ENGINE_WORKER_NAME, ACTORS["vLLMHttpServer"])
SAMPLING = (*ENGINE_PARTS, ACTORS["MixAgentLoopWorker"], ACTORS["RewardLoopWorker"])
QUEUE_PARTS = (ACTORS["SimpleStorageUnit"], ACTORS["TransferQueueController"])
AT_WORK = {  # the parts that work in a phase, those first for which the others wait
    Phase.ROLLOUT: (*SAMPLING, *QUEUE_PARTS, TRAINER),
    Phase.VALIDATION: (*SAMPLING, *QUEUE_PARTS, TRAINER),
    Phase.REWARD: (ACTORS["RewardLoopWorker"], *ENGINE_PARTS, *QUEUE_PARTS, TRAINER),
    Phase.UPDATE: (ACTORS["WorkerDict"], RANK_NAME, *QUEUE_PARTS, TRAINER),
    Phase.WEIGHT_SYNC: (*ENGINE_PARTS, ACTORS["WorkerDict"], ACTORS["CheckpointEngineWorker"], TRAINER),
    Phase.CHECKPOINT: (ACTORS["WorkerDict"], RANK_NAME, TRAINER),
    Phase.RECORD: (TRAINER, *QUEUE_PARTS),
}


@dataclass(frozen=True)
class Told:
    """What the trainer has said last: the number of its change, the step, and the phase."""

    change: int
    step: int
    phase: Phase


def phase_file(run_name: str) -> Path:
    """Where the phase of a run stands, on the machine of its main process."""
    return (SHARED_MEMORY if SHARED_MEMORY.is_dir() else Path(tempfile.gettempdir())) / f"luffy-phase-{run_name}"


def begin(phase: Phase, step: int) -> None:
    """Say that ``phase`` of ``step`` begins in this process; nothing where no run is watched (plain veRL)."""
    if name := os.environ.get(RUN_NAME):
        with replacing(phase_file(name)) as temporary:
            temporary.write_text(f"{os.getpid()}{next(_CHANGES):09d} {step} {phase}")


def told(run_name: str) -> Told | None:
    """What was said last; None before the first word."""
    try:
        change, step, phase = phase_file(run_name).read_text().split(" ", 2)
    except (OSError, ValueError):
        return None
    return Told(change=int(change), step=int(step), phase=Phase(phase))


def remove_phase(run_name: str) -> None:
    """Remove what was said last."""
    phase_file(run_name).unlink(missing_ok=True)


class StallWatch:
    """Measures the phases of one start.

    Args:
        config: the bounds.
        run_name: of the run.
        say: writes a line for a person.
        clock: seconds since any moment.
    """

    def __init__(
        self, config: SafetyConfig, run_name: str, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._config, self._run_name, self._say, self._clock = config, run_name, say, clock
        self._told: Told | None = None
        self._longest: dict[Phase, float] = {}
        self._elapsed, self._last, self._next_line = 0.0, clock(), 0.0
        self._stopped: dict[psutil.Process, float] = {}  # seconds; of a part that was told of, infinity
        self.stacks = ""

    @property
    def phase(self) -> Phase:
        """What the training does."""
        return self._told.phase if self._told else Phase.START

    def look(self, parts: Mapping[psutil.Process, str]) -> str | None:
        """Take note of the time that has passed; a line where the phase has taken too long, with stacks in :attr:`stacks`.

        Args:
            parts: living parts of the run on this machine, and what a person calls them.
        """
        now = self._clock()
        passed = min(now - self._last, LONGEST_POLL_S)
        self._elapsed += passed
        self._last = now
        stopped = [process for process in parts if _state(process) == psutil.STATUS_STOPPED]
        self._tell_of(stopped, parts, passed)
        if (said := told(self._run_name)) != self._told:
            self._longest[self.phase] = max(self._elapsed, self._longest.get(self.phase, 0.0))
            self._told, self._elapsed, self._next_line = said, 0.0, 0.0
            return None
        longest = None if self.phase is Phase.START else self._longest.get(self.phase)
        allowed = self._config.allowed(self.phase, longest)
        if stopped:
            allowed = min(allowed, self._config.least_s)
        if self._elapsed > allowed:
            return self._end(parts, allowed)
        due = self._next_line or max(self._config.heartbeat_s, self._config.heartbeat * (longest or 0.0))
        if self._elapsed > due:
            self._next_line = 2 * self._elapsed
            before = "" if longest is None else f", the longest before took {longest:.0f} s"
            self._say(
                f"{self._where} takes {self._elapsed:.0f} s so far (at most {allowed:.0f} s{before}): {_waits_for(self.phase, parts)}"
            )
        return None

    def _tell_of(self, stopped: Sequence[psutil.Process], parts: Mapping[psutil.Process, str], passed: float) -> None:
        """A line, once, where a part has been stopped for long and the phases go on without it (Ray's head, between two starts)."""
        self._stopped = {process: self._stopped.get(process, 0.0) + passed for process in stopped}
        for process, seconds in self._stopped.items():
            if self._config.least_s < seconds < math.inf and self._elapsed < self._config.least_s:
                self._stopped[process] = math.inf
                self._say(
                    f"{parts[process]}, process {process.pid}, is stopped (SIGCONT lets it go on); the training goes on without it so far"
                )

    @property
    def _where(self) -> str:
        return f"the {self.phase}" + (f" of step {self._told.step}" if self._told and self._told.step else "")

    def _end(self, parts: Mapping[psutil.Process, str], allowed: float) -> str:
        suspects = _suspects(self.phase, parts)[:MOST_STACKS]
        found = [f"{parts[process]}, process {process.pid}:\n{stack_of(process)}" for process in suspects]
        sys.stderr.write("".join(f"stack of {each}\n" for each in found))  # into the log
        sys.stderr.flush()
        self.stacks = "\n".join(found[0].splitlines()[: STACK_LINES + 1]) + "\n" if found else ""
        return (
            f"{self._where} has made no progress for {self._elapsed:.0f} s ({allowed:.0f} s are allowed, luffy.safety): "
            f"{_waits_for(self.phase, parts)}"
        )


def _waits_for(phase: Phase, parts: Mapping[psutil.Process, str]) -> str:
    """The parts that keep the others waiting, in words."""
    found = [(parts[process], process.pid, _state(process)) for process in _suspects(phase, parts)]
    stopped = [each for each in found if each[2] in (psutil.STATUS_STOPPED, psutil.STATUS_DISK_SLEEP)]
    if stopped:
        words = {psutil.STATUS_STOPPED: "is stopped (SIGCONT lets it go on)", psutil.STATUS_DISK_SLEEP: "waits for the disk"}
        return "; ".join(f"{name}, process {pid}, {words[state]}" for name, pid, state in stopped)
    if phase is Phase.START:
        return "its parts come up one after the other; none of them is stopped"
    names = list(dict.fromkeys(name for name, _, _ in found if name != TRAINER)) or [TRAINER]
    return f"waiting for {', '.join(names)}; none of them is stopped"


def _suspects(phase: Phase, parts: Mapping[psutil.Process, str]) -> list[psutil.Process]:
    """Parts, stopped ones first, then those at work in the phase, then none."""
    order = AT_WORK.get(phase, tuple(dict.fromkeys(parts.values())))
    halted = [each for each in parts if _state(each) in (psutil.STATUS_STOPPED, psutil.STATUS_DISK_SLEEP)]
    working = sorted((each for each in parts if parts[each] in order and each not in halted), key=lambda each: order.index(parts[each]))
    return [*halted, *working]


def _state(process: psutil.Process) -> str:
    try:
        return process.status()
    except psutil.Error:
        return psutil.STATUS_DEAD


def stack_of(process: psutil.Process) -> str:
    """The Python stacks of a living process, the innermost call first; where they cannot be had, why, and where the kernel has it."""
    command = [str(Path(sys.executable).with_name("py-spy")), "dump", "--pid", str(process.pid)]
    if _state(process) == psutil.STATUS_STOPPED:
        command.append("--nonblocking")  # to stop it, as py-spy would, waits for ever
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=STACK_WITHIN_S)
        if done.returncode == 0:
            return _main_thread_first(done.stdout)
        why = (done.stderr.strip().splitlines() or ["py-spy says nothing"])[-1]
    except (OSError, subprocess.SubprocessError) as error:
        why = f"{type(error).__name__}"
    try:
        where = Path(f"/proc/{process.pid}/wchan").read_text()
    except OSError:
        where = "unknown"
    return f"    no Python stack ({why}); in the kernel: {where}"


def _main_thread_first(dump: str) -> str:
    """What py-spy shows, without its head, the main thread before the others."""
    threads = re.split(r"(?m)^(?=Thread )", dump)[1:]
    threads.sort(key=lambda thread: "MainThread" not in thread.split("\n", 1)[0])
    return "\n".join(line for thread in threads for line in thread.rstrip().splitlines())
