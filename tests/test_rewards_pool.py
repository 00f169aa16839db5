"""The worker pool: limits, crashes, order, threads, forks, and that nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from luffy.errors import InputError
from luffy.rewards import Grader, Reason

ROOT = Path(__file__).parents[1]
ENDLESS = r"\boxed{(10^9)!}"
ALGEBRA = r"\boxed{\frac{2x}{4}}"
HALF = "x/2"


@pytest.fixture
def grader() -> Iterator[Grader]:
    with Grader(workers=2, time_limit_s=1.5) as pool:
        assert pool.submit(ALGEBRA, HALF).result().correct
        yield pool


def children(pid: int) -> list[int]:
    """Ids of a process's children."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether a condition comes true in time."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def supervisor_of(grader: Grader) -> int:
    """The supervisor's process id."""
    return grader._pools[""].pid


def test_order_of_a_mixed_batch(grader: Grader) -> None:
    rows = [(rf"\boxed{{\frac{{{number}x}}{{7}}}}", f"{number + number % 2}x/7") for number in range(40)]
    rows[7] = (ENDLESS, "1")
    reasons = [verdict.reason for verdict in grader.grade_batch(rows)]
    expected = [Reason.WRONG if number % 2 else Reason.CORRECT for number in range(40)]
    expected[7] = Reason.TIMED_OUT
    assert reasons == expected


def test_time_limit_ends_a_verdict_and_not_the_next(grader: Grader) -> None:
    start = time.monotonic()
    verdict = grader.submit(ENDLESS, "1").result()
    assert (verdict.reason, verdict.answer, verdict.correct) == (Reason.TIMED_OUT, "(10^9)!", False)
    assert 1.4 < time.monotonic() - start < 8  # at most four times the limit, on a busy machine
    assert grader.submit(r"\boxed{\frac{3x}{6}}", HALF).result().correct


def test_a_stopped_worker_is_given_up_all_the_same(grader: Grader) -> None:
    workers = children(supervisor_of(grader))
    start = time.monotonic()
    waiting = grader.submit(ENDLESS, "1")
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)  # no CPU any more
    assert waiting.result(timeout=30).reason is Reason.TIMED_OUT
    assert 5.5 < time.monotonic() - start < 9
    assert grader.submit(r"\boxed{\frac{3x}{6}}", HALF).result().correct


def test_identical_comparisons_are_made_once(grader: Grader) -> None:
    start = time.monotonic()
    verdicts = grader.grade_batch([(f"attempt {number}: {ENDLESS}", "1") for number in range(10)])
    assert {verdict.reason for verdict in verdicts} == {Reason.TIMED_OUT}
    assert time.monotonic() - start < 7  # ten would take 7.5 s on two workers


def test_a_killed_worker_is_an_error_of_its_verdict_alone(grader: Grader) -> None:
    workers = children(supervisor_of(grader))
    waiting = [grader.submit(rf"\boxed{{(10^9+{number})!}}", "1") for number in range(2)]
    after = grader.submit(r"\boxed{\frac{4x}{8}}", HALF)
    time.sleep(0.3)
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    assert [each.result().reason for each in waiting] == [Reason.ERROR] * 2
    assert after.result().correct
    assert until(lambda: len(children(supervisor_of(grader))) == 2)
    assert not set(workers) & set(children(supervisor_of(grader)))


def test_memory_is_bounded_and_a_grown_worker_replaced() -> None:
    with Grader(workers=1, time_limit_s=20, memory_limit_mb=320) as grader:
        assert grader.submit(ALGEBRA, HALF).result().correct
        (before,) = children(supervisor_of(grader))
        assert not grader.submit(r"\boxed{\operatorname{zeros}(30000, 30000)}", "1").result().correct
        assert not grader.submit(r"\boxed{\operatorname{zeros}(3000, 3000)}", "1").result().correct
        assert until(lambda: not running(before))
        assert grader.submit(r"\boxed{\frac{5x}{10}}", HALF).result().correct


def test_a_killed_supervisor_loses_no_verdict(grader: Grader) -> None:
    workers = children(supervisor_of(grader))
    waiting = grader.submit(ENDLESS, "1")
    os.kill(supervisor_of(grader), signal.SIGKILL)
    assert waiting.result(timeout=10).reason is Reason.ERROR
    assert until(lambda: not any(map(running, workers)))
    assert grader.submit(r"\boxed{\frac{6x}{12}}", HALF).result(timeout=30).correct


def test_close_leaves_no_process_and_a_later_use_starts_new_ones() -> None:
    grader = Grader(workers=2, time_limit_s=5)
    waiting = [grader.submit(ENDLESS, str(number)) for number in range(4)]
    supervisor = supervisor_of(grader)
    assert until(lambda: len(children(supervisor)) == 2)
    family = [supervisor, *children(supervisor)]
    grader.close()
    assert not any(map(running, family))
    assert [each.result(timeout=5).reason for each in waiting] == [Reason.ERROR] * 4
    assert grader.submit(ALGEBRA, HALF).result().correct
    grader.close()


def test_a_killed_parent_leaves_no_process() -> None:
    script = (
        "import time; from luffy.rewards import Grader\n"
        f"grader = Grader(workers=2, time_limit_s=60); grader.submit({ALGEBRA!r}, 'x/2').result()\n"
        f"grader.submit({ENDLESS!r}, '1'); print(grader._pools[''].pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    supervisor = int(parent.stdout.readline())
    family = [supervisor, *children(supervisor)]
    assert len(family) == 3
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert until(lambda: not any(map(running, family)))


def test_a_forked_copy_uses_its_own_processes(grader: Grader) -> None:
    child = os.fork()
    if child == 0:
        try:
            correct = grader.submit(r"\boxed{\frac{7x}{14}}", HALF).result(timeout=30).correct
            grader.close()
            os._exit(0 if correct else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert grader.submit(r"\boxed{\frac{8x}{16}}", HALF).result().correct


def test_threads_share_a_grader(grader: Grader) -> None:
    def check(number: int) -> bool:
        verdict = grader.submit(rf"\boxed{{\frac{{{number % 10}x}}{{3}}}}", f"{number % 10}x/3").result()
        return verdict.correct

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(check, range(100)))


def test_what_a_user_got_wrong() -> None:
    with pytest.raises(InputError, match=r"Grader\.time_limit_s is 0; it must be a number above 0"):
        Grader(time_limit_s=0)
    with pytest.raises(InputError, match=r"unknown key Grader\.time_limit; did you mean Grader\.time_limit_s"):
        Grader(time_limit=3)
    grader = Grader(workers=1)
    with pytest.raises(InputError, match="unknown kind of answer 'poem': use one of math, choice, (gym, )?tiny, exact"):
        grader.grade_batch([("a", "b")], kind="poem")
    with pytest.raises(InputError, match="2 rows, but 1 kinds and 2 truncated marks"):
        grader.grade_batch([("a", "b"), ("c", "d")], kind=["exact"])
    with pytest.raises(InputError, match="2 rows, but 2 kinds and 1 truncated marks"):
        grader.grade_batch([("a", "b"), ("c", "d")], truncated=[True])


def test_a_pool_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(InputError, match="check that math-verify is installed"):
        Grader(workers=1).submit(ALGEBRA, HALF)


def test_text_alone_starts_no_process() -> None:
    with Grader() as grader:
        rows = [(r"\boxed{12}", 12), (r"\boxed{C}", "C"), ("", "1")]
        reasons = [verdict.reason for verdict in grader.grade_batch(rows, kind=["math", "choice", "math"])]
        assert reasons == [Reason.CORRECT, Reason.CORRECT, Reason.NO_ANSWER]
        assert grader._pools == {}


def test_import_is_light() -> None:
    script = "import sys, luffy.rewards; print([m for m in ('torch', 'sympy', 'math_verify', 'ray', 'verl') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
