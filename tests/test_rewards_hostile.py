"""Hostile responses: nothing runs as Python, nothing hangs, nothing raises, nothing counts as right."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from cases.rewards_hostile import CODE, HOSTILE, LONG

from luffy.rewards import Grader, Reason
from luffy.rewards.answer import as_text, boxed_answer, stated_value
from luffy.rewards.choice import choice_answer
from luffy.rewards.notation import READ_CHARS, normalised
from luffy.rewards.settle import STATED_CHARS

ROOT = Path(__file__).parents[1]
CANARY = "luffy_canary"
TIME_LIMIT_S = 1.0


def test_the_payload_is_real(tmp_path: Path) -> None:
    # What the verifier must never come to; in a process whose SymPy no other test has mended.
    subprocess.run([sys.executable, "-c", "import sys, sympy; sympy.sympify(sys.argv[1])", CODE], cwd=tmp_path, check=True)
    assert (tmp_path / CANARY).is_dir()


def test_every_hostile_response(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the working directory of the workers too
    start = time.monotonic()
    with Grader(workers=2, time_limit_s=TIME_LIMIT_S) as grader:
        verdicts = grader.grade_batch([(response, "7") for response in HOSTILE.values()])
        assert grader.submit(r"\boxed{\frac{14x}{2}}", "7x").result().correct
    assert time.monotonic() - start < TIME_LIMIT_S * len(HOSTILE)
    assert list(tmp_path.iterdir()) == []
    assert [name for name, verdict in zip(HOSTILE, verdicts, strict=True) if verdict.correct] == []
    reason = {name: verdict.reason for name, verdict in zip(HOSTILE, verdicts, strict=True)}
    assert reason["tower of powers"] is reason["factorial"] is reason["binomial"] is Reason.TIMED_OUT
    assert set(reason.values()) <= set(Reason) - {Reason.CORRECT, Reason.GATE_FAILED, Reason.TRUNCATED}


def test_names_are_never_compiled() -> None:
    series = "k, name = sympy.symbols('k exit'); print(sympy.Sum(name / sympy.factorial(k), (k, 1, sympy.oo)).evalf())"
    assert "exec is refused in a reward worker" in locked_down(series)  # SymPy compiles a function with the name in its source
    with Grader(workers=1, time_limit_s=30) as grader:
        verdict = grader.submit(HOSTILE["letters in a series"], r"\sum_{n=1}^{\infty} \frac{1}{n!}").result()
    assert verdict.reason in (Reason.WRONG, Reason.ERROR)


@pytest.mark.parametrize("kind", ["choice", "tiny", "exact"])
def test_hostile_responses_of_other_kinds(kind: str) -> None:
    start = time.monotonic()
    with Grader() as grader:
        verdicts = grader.grade_batch([(response, "7") for response in HOSTILE.values()], kind=kind)
        assert grader._pools == {}
    assert [name for name, verdict in zip(HOSTILE, verdicts, strict=True) if verdict.correct] == []
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("name", LONG)
def test_reading_long_text_takes_linear_time(name: str) -> None:
    start = time.process_time()
    text = as_text(LONG[name])
    boxed_answer(text)
    choice_answer(text)
    stated_value(text[-STATED_CHARS:])
    normalised(text[-READ_CHARS:])
    assert time.process_time() - start < 1.5


def locked_down(code: str) -> str:
    """What a locked-down process prints."""
    setup = "import sympy\nfrom luffy.rewards.lockdown import Lockdown, Refused\nlock = Lockdown(2048)\n"
    done = subprocess.run([sys.executable, "-c", setup + code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    "action",
    [
        "eval('1')", "exec('a = 1')", "__import__('os').system('true')", "open('new', 'w')", "__import__('os').mkdir('new')",
        "__import__('os').fork()", "__import__('subprocess').run(['true'])", "__import__('os').remove('new')",
        "__import__('socket').socket()", "__import__('os').execv('/bin/true', ['true'])", "__import__('os').kill(1, 0)",
        "__import__('sympy').lambdify('x', 'x')", "__import__('sympy').sympify('2')",
    ],
)  # fmt: skip
def test_a_worker_refuses(action: str) -> None:
    assert "is refused in a reward worker" in locked_down(action)


def test_a_worker_can_still_build_polynomials_and_namedtuples() -> None:
    work = (
        "from collections import namedtuple\n"
        "x, y = sympy.symbols('x y'); P = namedtuple('P', 'a b')\n"
        "print(sympy.factor(x**2 - y**2), P(1, 2).b, lock.refusals)"
    )
    assert locked_down(work) == "(x - y)*(x + y) 2 0"


def test_a_worker_cannot_grow_beyond_its_limit() -> None:
    assert locked_down("bytearray(3 << 30)") == "MemoryError"
