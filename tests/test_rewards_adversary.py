"""Answers that are never right earn nothing, for real gold answers: what a policy under training would find."""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pandas
import pytest

from luffy.rewards import Grader, Reason, kind_for

ROOT = Path(__file__).parents[1]
FOLDERS = [
    Path(folder)
    for folder in (os.environ.get("LUFFY_BENCHMARKS"), ROOT.parent / "shared/benchmarks", ROOT.parents[1] / "shared/benchmarks")
    if folder
]
BENCHMARKS = next((folder for folder in FOLDERS if (folder / "valid.all.parquet").is_file()), None)
SEED = 0

NEVER_RIGHT = (
    "0=1", "1=1", "0", "1", "-1", "x", "x=x", "y=x", "x>0", r"\emptyset", r"\{\}", r"\mathbb{R}", r"(-\infty,\infty)", r"\infty",
    ",".join(map(str, range(20))), r"\frac{0}{0}", r"\frac{1}{0}", r"\pm 1", r"\text{yes}", r"\text{none}", "(0,0)",
    r"\begin{pmatrix} 0 \\ 0 \end{pmatrix}", r"n \equiv 0 \pmod{1}", r"1, 2, \ldots, n", "A, B, C, D",
)  # fmt: skip


def answers_to(gold: str) -> tuple[str, ...]:
    """Thirty answers that are not the gold answer, five of them made of it."""
    bare = gold.strip("$")
    number = re.search(r"[0-9]+(?:\.[0-9]+)?", bare)
    larger = f"{bare}+1" if re.fullmatch("[A-Z]", bare) else f"({bare})+1"  # (D) with anything behind it is a labelled option
    return (*NEVER_RIGHT, number[0] if number else "3", larger, f"-({bare})", rf"\text{{not }} {bare}", f"{bare}, 987654321")


def stripped(text: str) -> str:
    """The text without what graders of these benchmarks leave out: signs of looks, units, degrees, a base, a name before =."""
    text = re.sub(
        r"\\(?:text|mbox)\s*\{[^{}]*\}(?:\^\{?[0-9]\}?)?|\^\{?\\circ\}?|\\?%|\\?\$|\\!|\\left|\\right|\s|(?<=[0-9])_\{?[0-9]+\}?$", "", text
    )
    return re.sub(r"^[A-Za-z](?:\([a-z]\))?=|(?<=[0-9]),(?=[0-9]{3}(?![0-9]))", "", text)


def really_is(answer: str, gold: str) -> bool:
    """Whether an answer is the gold answer all the same, by its text, as a number, or as a list in another order."""
    one, other = stripped(answer), stripped(gold)
    try:
        return one == other or Fraction(one.replace("-(", "-").rstrip(")")) == Fraction(other)
    except (ValueError, ZeroDivisionError):
        return "," in one and set(one.split(",")) == set(other.split(","))


def sampled_golds(count: int) -> list[tuple[str, str]]:
    """(source, gold) of different questions of the benchmarks."""
    tables = [pandas.read_parquet(BENCHMARKS / f"{name}.parquet") for name in ("valid.all", "valid.arc_c", "valid.gpqa")]
    rows = pandas.concat(tables)
    questions = {
        (source, prompt[-1]["content"]): str(reward["ground_truth"])
        for source, prompt, reward in zip(rows.data_source, rows.prompt, rows.reward_model, strict=True)
    }
    return random.Random(SEED).sample([(source, gold) for (source, _), gold in questions.items()], count)


def test_the_rule_is_independent_and_strict() -> None:
    assert really_is("120", r"120^\circ") and really_is("52", "52_8") and really_is("0", "0.0") and really_is("-(0)", "0")
    assert really_is("864", r"864 \mbox{ inches}^2") and really_is("1,0", "0,1") and really_is("1", "$k=1$")
    assert not really_is("1", "$x^2+1$") and not really_is("-(2)", "2") and not really_is("2", "2, 3")


@pytest.mark.slow
@pytest.mark.skipif(BENCHMARKS is None, reason="no folder with valid.all.parquet: set LUFFY_BENCHMARKS")
@pytest.mark.parametrize("count", [600, pytest.param(2000, marks=pytest.mark.soak)])
def test_no_answer_pays_for_all_questions(count: int) -> None:
    golds = sampled_golds(count)
    assert len({len(set(answers_to(gold))) for _, gold in golds} - {29, 30}) == 0  # the first number may be 0 or 1
    rows = [(source, gold, answer) for source, gold in dict.fromkeys(golds) for answer in answers_to(gold)]
    with Grader(workers=1, time_limit_s=20) as grader:
        verdicts = grader.grade_batch(
            [(rf"\boxed{{{answer}}}", gold) for _, gold, answer in rows], kind=[kind_for(source) for source, _, _ in rows]
        )
    paid = [(row, verdict) for row, verdict in zip(rows, verdicts, strict=True) if verdict.correct]
    assert [row for row, _ in paid if not really_is(row[2], row[1])] == []
    assert len(paid) > count // 20  # of golds that are 0 or 1, or the first number of which is all of them
    assert Counter(verdict.reason for verdict in verdicts)[Reason.ERROR] == 0
