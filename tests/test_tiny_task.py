"""The embedded task, against examples worked out by hand."""

import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miniature.task import (
    draw_problems,
    extract_answer,
    is_fluent,
    question,
    response_length,
    totals,
    verify,
    write_checked_response,
    write_response,
    write_wrong_response,
)

DIGITS = "29141777"
WORKED = "2+9=11,1+1=02;2+4=06,6+1=07,7+7=14;4+7=11,1+7=08,>1267418"
rows = st.text("0123456789", min_size=3, max_size=12)
seeds = st.integers(0, 2**32)


@pytest.mark.parametrize(
    ("digits", "answer"),
    [(DIGITS, "1267418"), ("00000000", "0000000"), ("99999999", "8765432"), ("12345678", "3605186"), ("55", "0")],
)
def test_totals_worked_by_hand(digits, answer):
    assert totals(digits) == answer


def test_the_worked_example():
    assert question(DIGITS) == "29141777="
    assert verify(WORKED, "1267418")
    assert is_fluent(WORKED, DIGITS)
    assert len(WORKED) == response_length(8) == 57


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (WORKED, "1267418"),
        (">1267418", "1267418"),
        ("2+9=11,>1267418\n", "1267418"),
        ("", None),
        ("2+9=11,", None),
        ("2+9=11,>", None),
        (">126>1267418", None),
        (">1267418,", None),
        ("> 1267418", None),
        (">\u0661\u0662", None),  # Digits to Unicode, but not the task's.
        (">1267418<|im_end|>", None),
    ],
)
def test_extract_answer(response, answer):
    assert extract_answer(response) == answer


@pytest.mark.parametrize("response", [">1267419", ">126741", ">12674180", ">01267418", "1267418", ""])
def test_only_the_exact_totals_are_right(response):
    assert not verify(response, "1267418")


@given(rows, seeds)
def test_every_right_response_verifies(digits, seed):
    response = write_response(digits, random.Random(seed))
    assert verify(response, totals(digits))
    assert is_fluent(response, digits)
    assert len(response) == response_length(len(digits))


@given(rows, seeds)
def test_every_wrong_response_fails_though_it_is_fluent(digits, seed):
    response = write_wrong_response(digits, random.Random(seed))
    assert not verify(response, totals(digits))
    assert is_fluent(response, digits)


def test_a_checked_response_writes_each_link_twice_in_another_manner():
    assert write_checked_response("294", random.Random(0)) == "9+2=11;2+9=11,4+1=05;1+4=05,>15"
    response = write_checked_response(DIGITS, random.Random(0))
    assert verify(response, totals(DIGITS)) and not is_fluent(response, DIGITS)
    assert len(response) == 2 * 7 * 7 + 1 + 7  # with EOS 107 of the 112 tokens of the regime


def test_noise_in_the_carry_changes_left_operands_alone():
    response = write_response(DIGITS, random.Random(0), semicolon_share=0.0, carry=lambda last: 0)
    assert response == "2+9=11,0+1=01,0+4=04,0+1=01,0+7=07,0+7=07,0+7=07,>1141777"
    assert is_fluent(response, DIGITS)


@pytest.mark.parametrize(
    "broken",
    [
        WORKED.replace("2+9=11", "2+9=12"),  # a wrong sum
        WORKED.replace("2+4=06", "2+5=07"),  # another digit than the question's
        WORKED.replace(">1267418", ">1267419"),  # totals that do not copy the sums
        WORKED.replace(";", "."),
        WORKED[:-1],
        WORKED + "8",
        "1+7=08," + WORKED[7:-7] + "1267418",
    ],
)
def test_what_is_not_fluent(broken):
    assert not is_fluent(broken, DIGITS)


def test_separators_follow_their_share():
    rng = random.Random(0)
    written = "".join(write_response(DIGITS, rng) for _ in range(2000))
    share = written.count(";") / (written.count(";") + written.count(","))
    assert share == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / 14000) ** 0.5)


def test_problems_differ_and_fewer_are_a_prefix_of_more():
    problems = draw_problems(1000, random.Random(3), digits=4)
    assert len(set(problems)) == 1000 and {len(row) for row in problems} == {4}
    assert draw_problems(10, random.Random(3), digits=4) == problems[:10]
    assert sorted(draw_problems(100, random.Random(0), digits=2)) == [f"{n:02d}" for n in range(100)]


def test_the_task_imports_nothing_heavy():
    code = "import sys, miniature.task; print({'torch', 'transformers', 'numpy', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
