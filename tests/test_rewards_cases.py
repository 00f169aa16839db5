"""Tables of (gold, response, reason), each in a file named after where its gold answers come from."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from luffy.rewards import Grader, Reason, grade, notation
from luffy.rewards.answer import boxed_answer
from luffy.rewards.notation import normalised

CASES = Path(__file__).parent / "cases"
KIND_OF_TABLE = {"arc_gpqa": "choice", "choice": "choice"}
TABLES = ("math500", "olympiad_bench", "minerva", "aime_amc", "arc_gpqa", "project", "boxes", "choice", "notation",
          "percent", "whole", "equations", "numbers", "symbols", "meaning", "scientific", "mixed", "rules", "latex")  # fmt: skip


def read_table(name: str) -> list[tuple[object, object, str]]:
    """Rows of one table."""
    return [tuple(row) for row in json.loads((CASES / f"rewards_{name}.json").read_text())["rows"]]


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(workers=2, time_limit_s=30) as shared:
        yield shared


@pytest.mark.parametrize("table", TABLES)
def test_table(grader: Grader, table: str) -> None:
    rows = read_table(table)
    verdicts = grader.grade_batch([(response, gold) for gold, response, _ in rows], kind=KIND_OF_TABLE.get(table, "math"))
    found = [(gold, response, str(verdict.reason)) for (gold, response, _), verdict in zip(rows, verdicts, strict=True)]
    assert found == rows
    assert all(verdict.correct == (verdict.reason is Reason.CORRECT) for verdict in verdicts)


@pytest.mark.parametrize("table", TABLES)
def test_the_notation_is_reached_in_one_go(table: str) -> None:
    golds = [normalised(str(gold)) for gold, _, _ in read_table(table)]
    answers = [normalised(answer) for _, response, _ in read_table(table) if response and (answer := boxed_answer(response))]
    assert [text for text in golds + answers if normalised(text) != text] == []
    assert [text for text in golds + answers if notation._with_all_rules(text) != text] == []  # without the short way


def test_the_short_way_leads_where_the_rules_lead() -> None:
    pieces = ["1", "23", "4.5", "0.1", "x", "a", "e", "o", r"\frac{1}{2}", r"\dfrac{", r"\sqrt{", r"\pi", "^2", "^{", "}", "}{", "(", ")", "[", "]", r"\left(", r"\right]",
              "+", "-", "=", "/", ",", ", ", " + ", " = ", r" \cdot ", r"\times", "x10^{", "(3)", "!", " "]  # fmt: skip
    rng = random.Random(0)
    texts = {"".join(rng.choices(pieces, k=rng.randint(1, 6))) for _ in range(20_000)}
    short = [text for text in texts if notation._USUAL.fullmatch(notation._USUAL_LOOKS.sub("", text))]
    assert len(short) > 2_000
    assert [text for text in short if normalised(text) != notation._with_all_rules(text)] == []


def test_what_was_graded_before_does_not_matter() -> None:
    """A decimal of many digits stands for what it is the rounding of, in its own answer alone."""
    exact = [("1", r"1-\frac{1}{2^{100}}"), ("1.0000001", "1"), (r"\frac{2^{1005}-7}{2^{1006}}", r"\frac12"), ("100000+10^{-2}", "100000")]
    with Grader(workers=1, time_limit_s=30) as grader:
        for decimal in ("1.00000", "0.500000", "100000.0"):
            grader.submit(rf"\boxed{{{decimal}}}", "2").result()
        assert [grader.submit(rf"\boxed{{{answer}}}", gold).result().reason for answer, gold in exact] == [Reason.WRONG] * 4
        assert grader.submit(r"\boxed{0.3333333}", r"\frac13").result().correct


def test_grade_alone_says_the_same_as_a_batch() -> None:
    verdict = grade(r"so \boxed{\frac{2}{4}}", "0.5")
    assert (verdict.correct, verdict.reason, verdict.answer) == (True, Reason.CORRECT, r"\frac{2}{4}")
    assert grade("no </think>", "1", thought_gate=True).reason is Reason.NO_ANSWER
    assert grade("ANSWER: B", "B", kind="choice").correct
