"""What is said and done where a phase of a run takes too long, with real processes that are stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from luffy.safety import Phase, SafetyConfig
from verl.mix_src.run import stalls
from verl.mix_src.run.processes import RUN_NAME, new_run_name, supervised
from verl.mix_src.run.stalls import StallWatch, begin, phase_file, remove_phase, stack_of
from verl.mix_src.upstream import ENGINE_NAME

ASLEEP = "import time\ndef waits_for_the_socket():\n    print(flush=True)\n    time.sleep(600)\nwaits_for_the_socket()"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a run, whose trainer is this process."""
    name = new_run_name()
    monkeypatch.setenv(RUN_NAME, name)
    yield name
    remove_phase(name)


@pytest.fixture
def part() -> Iterator[psutil.Process]:
    """A real process that waits in a function of a name of its own."""
    process = subprocess.Popen([sys.executable, "-c", ASLEEP], stdout=subprocess.PIPE)
    process.stdout.readline()
    yield psutil.Process(process.pid)
    process.kill()
    process.wait()


class Clock:
    """Time that passes when it is told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now

    def look(self, watch: StallWatch, seconds: float, parts=None) -> str | None:
        """A look at each second; what the last one gave."""
        found = None
        for _ in range(int(seconds)):
            self.now += 1
            found = found or watch.look(parts or {})
        return found


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_bounds_are_learned_from_the_longest_and_never_above_the_config() -> None:
    config = SafetyConfig(update_s=100.0, times_longest=5.0, least_s=10.0)
    assert [config.allowed(Phase.UPDATE, longest) for longest in (None, 1.0, 4.0, 50.0)] == [100.0, 10.0, 20.0, 100.0]


def test_each_phase_has_its_bound() -> None:
    names = {phase: f"{phase.name.lower()}_s" for phase in Phase}
    for phase, name in names.items():
        assert SafetyConfig(**{name: 12.5}).bound(phase) == 12.5


def test_a_phase_ends_at_its_bound_and_a_new_one_begins_at_zero(run: str, clock: Clock) -> None:
    said = []
    watch = StallWatch(
        SafetyConfig(rollout_s=30.0, update_s=50.0, least_s=5.0, times_longest=2.0, heartbeat_s=1000.0), run, said.append, clock
    )
    begin(Phase.ROLLOUT, 1)
    assert clock.look(watch, 25) is None
    begin(Phase.UPDATE, 1)
    assert clock.look(watch, 45) is None
    begin(Phase.ROLLOUT, 2)
    assert clock.look(watch, 31) is None  # the look that sees the change, and 30 s
    assert clock.look(watch, 1).startswith("the rollout of step 2 has made no progress for 31 s (30 s are allowed, luffy.safety): ")
    begin(Phase.UPDATE, 2)
    clock.look(watch, 1)
    begin(Phase.ROLLOUT, 3)
    begin(Phase.UPDATE, 3)  # two changes between two looks
    assert clock.look(watch, 51) is None
    assert "update of step 3" in clock.look(watch, 1)


def test_time_in_which_the_watch_is_stopped_does_not_count(run: str, clock: Clock) -> None:
    """Ctrl-Z, or a laptop's lid: a look after two hours counts for five seconds."""
    watch = StallWatch(SafetyConfig(rollout_s=30.0), run, lambda line: None, clock)
    begin(Phase.ROLLOUT, 1)
    clock.look(watch, 1)
    clock.now += 7200
    assert watch.look({}) is None and clock.look(watch, 24) is None
    assert clock.look(watch, 2) is not None


def test_a_line_says_what_is_waited_for_and_again_at_each_doubling(run: str, clock: Clock, part: psutil.Process) -> None:
    said = []
    watch = StallWatch(SafetyConfig(heartbeat=3.0, heartbeat_s=10.0, times_longest=50.0), run, said.append, clock)
    for phase in (Phase.ROLLOUT, Phase.UPDATE, Phase.ROLLOUT):
        begin(phase, 7)
        clock.look(watch, 7 if len(said) == 0 else 1)
    clock.look(watch, 60, {part: ENGINE_NAME})
    assert [line.split(" so far")[0] for line in said] == [
        f"the rollout of step 7 takes {seconds} s" for seconds in (22, 45)
    ]  # three times the 7 s before
    assert said[0].endswith("the longest before took 7 s): waiting for a rollout engine (vLLM); none of them is stopped")


def test_a_stopped_part_is_named_with_its_stack(run: str, clock: Clock, part: psutil.Process) -> None:
    watch = StallWatch(SafetyConfig(least_s=20.0), run, lambda line: None, clock)
    begin(Phase.ROLLOUT, 4)
    assert clock.look(watch, 30, {part: ENGINE_NAME}) is None  # hours are allowed before the first end
    part.suspend()
    while part.status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)
    line = clock.look(watch, 1, {part: ENGINE_NAME})
    assert line.endswith(f"a rollout engine (vLLM), process {part.pid}, is stopped (SIGCONT lets it go on)")
    assert "waits_for_the_socket" in watch.stacks and watch.stacks.startswith(f"a rollout engine (vLLM), process {part.pid}:\n")


def test_a_stopped_part_that_holds_nothing_up_is_told_of_once(run: str, clock: Clock, part: psutil.Process) -> None:
    said = []
    watch = StallWatch(SafetyConfig(least_s=20.0), run, said.append, clock)
    part.suspend()
    while part.status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)
    for step in range(10):  # phases of 4 s go on
        begin(Phase.UPDATE, step)
        assert clock.look(watch, 4, {part: "Ray's head"}) is None
        assert len(said) == (step >= 5)  # 20 s are allowed, the 21st is the first of step 5
    assert said == [f"Ray's head, process {part.pid}, is stopped (SIGCONT lets it go on); the training goes on without it so far"]


def test_the_stack_of_a_living_process(part: psutil.Process) -> None:
    assert "waits_for_the_socket" in stack_of(part).splitlines()[1]
    part.kill()
    part.wait()
    assert stack_of(part).startswith("    no Python stack (")


def test_a_phase_is_told_in_memory_and_a_plain_run_of_verl_tells_nothing(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(Phase.CHECKPOINT, 12)
    assert (stalls.told(run).phase, stalls.told(run).step) == (Phase.CHECKPOINT, 12)
    assert phase_file(run).parent == stalls.SHARED_MEMORY
    monkeypatch.delenv(RUN_NAME)
    begin(Phase.ROLLOUT, 13)
    assert stalls.told(run).step == 12


DEAF = """
import os, signal, sys, time
from verl.mix_src.run import processes
processes.UNWOUND_WITHIN_S = 2.0
class Stalled:
    stacks = "stack"
    def look(self, parts): return "the rollout stalled"
with processes.supervised(stalls=Stalled()) as watch:
    if sys.argv[1] == "deaf":
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a call into C that never returns
    child = __import__("subprocess").Popen(["sleep", "600"])
    print(child.pid, flush=True)
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        print("interrupted", watch.first_failure, watch.stacks, flush=True)
"""


@pytest.mark.parametrize(("ear", "code", "said"), [("hears", 0, "interrupted the rollout stalled stack"), ("deaf", 1, "")])
def test_a_stall_ends_the_run_even_where_the_main_thread_does_not_react(ear: str, code: int, said: str) -> None:
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", DEAF, ear], capture_output=True, text=True, timeout=120)
    child, *lines = done.stdout.splitlines()
    assert done.returncode == code and "".join(lines) == said
    assert ("error: the rollout stalled; the main process did not react" in done.stderr) == (ear == "deaf")
    assert not psutil.pid_exists(int(child)) and time.monotonic() - started < 60


def test_supervised_without_a_measure_of_stalls() -> None:
    with supervised() as watch:
        os.kill(os.getpid(), signal.SIGCONT)
    assert watch.first_failure is None and watch.stacks == ""
