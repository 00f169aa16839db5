"""The verifier says what plain Math-Verify says, on answers that Math-Verify is made for."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path

import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from math_verify import parse, verify
from sympy.parsing import parse_expr

from luffy.rewards import Grader, Reason
from luffy.rewards.settle import shortcut, without_e_notation

CASES = Path(__file__).parent / "cases"
BENCHMARKS = Path(os.environ.get("LUFFY_BENCHMARKS", ""), "valid.all.parquet")
TABLES = ("math500", "olympiad_bench", "minerva", "aime_amc", "project")

DIFFERENT_ON_PURPOSE = {
    # Math-Verify: 4.5 times Euler's number times 33, and equality of all tiny numbers.
    ("4.5e33", r"\boxed{4.5 \times 10^{33}}"),
    ("4.5e33", r"\boxed{45 \times 10^{32} \text{ erg/s}}"),
    ("4.5e33", r"It is about $4.5 \times 10^{33}$."),
    ("1.325e-27", r"\boxed{1.325 \times 10^{-27}}"),
    ("3e8", r"\boxed{300000000}"),
    ("3e8", r"\boxed{3 \cdot 10^8}"),
    ("2.88e16", r"\boxed{2.88E+16}"),
    # A gold answer in Python's notation.
    ("np.arcsin(10/13)", r"\boxed{\arcsin(10/13)}"),
    # Math-Verify takes nearby boxes together whatever stands between them, and knows no other box.
    ("3", r"\boxed{2}. No: \boxed{3}"),
    ("3", r"\boxed {3}"),
    ("3", r"\fbox{3}"),
}  # fmt: skip


def boxed(text: str) -> str:
    """A gold answer as Math-Verify wants it."""
    return "\\boxed{" + text + "}"


def math_verify(gold: str, response: str) -> bool:
    """Math-Verify's own verdict, without its limits of 5 seconds of wall clock, which a busy machine exceeds."""
    return verify(parse(boxed(gold), parsing_timeout=60), parse(response, parsing_timeout=60), timeout_seconds=60)


def table_rows() -> list[tuple[str, str]]:
    """(gold, response) of every table of mathematics, where both are text without a thought and gold is no sentence."""
    rows = [row for name in TABLES for row in json.loads((CASES / f"rewards_{name}.json").read_text())["rows"]]
    return [
        (gold, response)
        for gold, response, _ in rows
        if isinstance(gold, str) and gold and "boxed" not in gold and response and "</think>" not in response
    ]


def test_tables() -> None:
    rows = table_rows()
    assert len(rows) > 80
    with Grader(workers=1, time_limit_s=30) as grader:
        ours = [verdict.correct for verdict in grader.grade_batch([(response, gold) for gold, response in rows])]
    differing = {row for row, mine in zip(rows, ours, strict=True) if mine != math_verify(*row)}
    assert differing - DIFFERENT_ON_PURPOSE == set()
    assert DIFFERENT_ON_PURPOSE - differing == set()


NUMBERS = st.one_of(
    st.integers(-200, 200).map(str),
    st.integers(0, 99).map(lambda number: f"{number:03d}"),
    st.decimals(-20, 20, places=1).map(str),
    st.decimals(-1, 1, places=6).map(str),
    st.decimals(0, 99999, places=2).map(str),
    st.tuples(st.sampled_from(["", "-"]), st.integers(-9, 9), st.integers(0, 6)).map(lambda parts: r"{}\frac{{{}}}{{{}}}".format(*parts)),
    st.tuples(st.sampled_from(["", "-"]), st.integers(0, 9), st.integers(0, 6)).map(lambda parts: "{}{}/{}".format(*parts)),
)


@settings(max_examples=200, deadline=None)
@given(answer=NUMBERS, gold=NUMBERS)
def test_shortcut_on_numbers(answer: str, gold: str) -> None:
    for one, other in ((answer, gold), (gold, gold), (gold + "0" if "." in gold else gold + ".0", gold)):
        known = shortcut(one, other)
        if known is not None:
            assert known == math_verify(other, boxed(one)), (one, other)


@pytest.mark.parametrize(
    "text",
    [r"\frac{1}{0}", r"\infty", r"\infty - \infty", "nan", r"\text{nan}", "a=1, b=2", "x<3", "()", "{", "?!", "-", "e", "i",
     r"\$5", "5%", r"50\%", r"1{,}000", r"\begin{cases} 1 \\ 2 \end{cases}", "no solution", "x \\in \\emptyset", "0/0"],
)  # fmt: skip
def test_equal_strings_are_equal_to_math_verify(text: str) -> None:
    if shortcut(text, text):
        assert math_verify(text, boxed(text))


@pytest.mark.parametrize(
    ("answer", "gold"),
    [(r"\dfrac{1}{2}", r"\frac{1}{2}"), (r"\left(1,2\right)", "(1,2)"), ("$x+1$", "x+1"), (r"\left[0,1\right)", "[0,1)")],
)
def test_looks_do_not_matter(answer: str, gold: str) -> None:
    assert shortcut(answer, gold) is True
    assert math_verify(gold, boxed(answer))


@pytest.mark.parametrize(
    ("answer", "gold"),
    [("1 2", "12"), ("1, 000", "1,000"), ("A", "a"), ("x", "y"), ("1/2", "0.5"), ("1e3", "x"), ("1/0", "2"), (r"2\frac{1}{2}", "3")],
)
def test_shortcut_says_nothing_where_it_is_not_certain(answer: str, gold: str) -> None:
    assert shortcut(answer, gold) is None


def test_e_notation_only_where_it_is_sure() -> None:
    rewritten = {"4.5e33": r"4.5 \times 10^{33}", r"\displaystyle 1e-3": r"\displaystyle 1 \times 10^{-3}", "3e+8 m": r"3 \times 10^{8} m"}
    assert {text: without_e_notation(text) for text in rewritten} == rewritten
    for unsure in ("2e-3", "e^{2e3}", "x1e5", "12e", "1.2.3e4", "1e5x", "2e"):
        assert without_e_notation(unsure) == unsure


@pytest.mark.parametrize(
    "text", ["1/3", "1+2*(3)", "-(1/2)", "2**10", "3 - 4/5", "(1.50 - 2)*3", "-3*-2", "2**-1", ".5*4", "1 - (2 - (3 - 4))"]
)
def test_arithmetic_reads_as_sympy_reads(text: str) -> None:
    from luffy.rewards.mends import read_arithmetic

    ours, sympys = read_arithmetic(text, evaluate=False), parse_expr(text, evaluate=False)
    assert ours.doit() == sympys.doit()
    assert str(ours.doit()) == str(sympys.doit())


@pytest.mark.parametrize(
    "text", ["x", "f(1)", "(1).real", "[1]", "1 if 1 else 2", "'a'", "1j", "1//2", "1,2", "lambda: 1", "1_000", "0x1f", "~1"]
)
def test_arithmetic_refuses_all_else(text: str) -> None:
    from luffy.rewards.mends import read_arithmetic

    ast.parse(text)  # it is Python
    with pytest.raises(ValueError, match="not plain arithmetic"):
        read_arithmetic(text)


@pytest.mark.slow
@pytest.mark.skipif(not BENCHMARKS.is_file(), reason="set LUFFY_BENCHMARKS to a folder with valid.all.parquet")
def test_every_benchmark_gold_is_readable() -> None:
    golds = sorted({row["ground_truth"] for row in pandas.read_parquet(BENCHMARKS).reward_model})
    with Grader(time_limit_s=30) as grader:
        verdicts = grader.grade_batch([(boxed(rf"\displaystyle {gold}"), gold) for gold in golds])
    assert [gold for gold, verdict in zip(golds, verdicts, strict=True) if verdict.reason is not Reason.CORRECT] == []
