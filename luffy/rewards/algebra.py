"""The comparison itself: Math-Verify on one answer and its gold answers. Imported by worker processes only.

Nothing here limits time or memory, and nothing is caught: :mod:`luffy.rewards.worker` does both.
"""

from __future__ import annotations

import logging
import re

from latex2sympy2_extended.logic import And
from math_verify import parse, verify
from sympy import Basic, Eq, MatrixBase, Rational, S, Set, pi
from sympy.core.relational import Relational

from luffy.rewards.arithmetic import replace_sympy_eval
from luffy.rewards.equality import FAMILY, replace_equality, same_family, same_solutions, solutions
from luffy.rewards.quantity import Unit, same_time
from luffy.rewards.reading import CONGRUENT, UNNAMED, Reading, read, read_numbers_exactly, scaled, settled
from luffy.rewards.two_stage import parse_in_two_stages
from luffy.rewards.verdict import Reason

BOXED, PROSE, READABLE = "boxed", "prose", "readable"

_LETTER_UNIT = re.compile(r"(.*[0-9)}])([mgshlLJNWVAKC])")
"""A number with one letter behind it: a product, but a unit where the gold answer is a number."""
_SCIENTIFIC = re.compile(
    r"(?<![\w.\\^{,-])(?P<sign>-?)\s?(?P<digits>[0-9]+(?:\.[0-9]+)?)"
    r"(?:[eE](?=[-+]?[0-9])|\s*(?:\\times|\\cdot|[x*])\s*10\s*\^\s*[{(]?\s*)(?P<power>[-+]?\s?[0-9]{1,3})[})]?(?![\w.]*[0-9])"
)
_OPERATION = re.compile(
    r"\\(?:sum|prod|int|oint|iint|lim|gcd|lcm|bmod|mod|det|max|min)(?![A-Za-z])|\\operatorname\{(?:gcd|lcm|max|min|det)\}|(?<![A-Za-z])(?:gcd|lcm)\("
)
"""What is still to be done: an answer that leaves it undone may only restate the question."""

_WARM_UP = (
    (BOXED, r"\frac{1}{2}", [r"0.5"]),
    (BOXED, r"x^2 + 2x + 1", [r"(x+1)^2"]),
    (BOXED, r"\{1, 2\}", [r"1, 2"]),
    (BOXED, r"[1, 2)", [r"[1, 3)"]),
    (BOXED, r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", [r"\begin{pmatrix} 1 \\ 3 \end{pmatrix}"]),
    (BOXED, r"x = \sqrt{8} + \sin(\pi/3)", [r"2x + 3 = 4"]),
    (BOXED, r"x < 3", [r"3 > x"]),
    (BOXED, r"\text{east}", [r"\text{west}"]),
    (BOXED, r"\sum_{k=1}^{5} k", ["15"]),
    (PROSE, "so the final answer is 3/4.", ["0.75"]),
)


def prepare() -> None:
    """Make this process one that compares: no ``eval``, a faster parser, and all loaded that answers need."""
    replace_sympy_eval()
    parse_in_two_stages()
    read_numbers_exactly()
    replace_equality()
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its own (signal) time limits are off
    for comparison in _WARM_UP:
        judge(*comparison)


def judge(form: str, answer: str, golds: list[str]) -> tuple[Reason, str | None]:
    """Compare an answer with each acceptable gold answer.

    Args:
        form: ``BOXED`` for the answer itself, ``PROSE`` for text that Math-Verify searches for an answer, ``READABLE`` for
            whether the gold answers can be read (the answer does not matter).
        answer: that answer or text.
        golds: acceptable answers.

    Returns:
        ``CORRECT``, ``WRONG``, ``NO_ANSWER`` or ``UNREADABLE`` (the gold answer), and the answer found.
    """
    readings = [read(gold) for gold in golds]
    if form == READABLE:
        return (Reason.CORRECT if all(gold.understood for gold in readings) else Reason.UNREADABLE), None
    found = _searched(answer) if form == PROSE else read(answer)
    if found is None:
        return Reason.NO_ANSWER, None
    shown = found.text if form == PROSE else answer
    if any(same_answer(gold, found) for gold in readings):
        return Reason.CORRECT, shown
    return (Reason.WRONG if any(gold.understood for gold in readings) else Reason.UNREADABLE), shown


def same_answer(gold: Reading, answer: Reading) -> bool:
    """Whether an answer says what the gold answer says."""
    if gold.text == answer.text and any(character.isalnum() for character in gold.text):
        return True
    if gold.words is not None or answer.words is not None:
        return answer.words is not None and gold.words in (answer.words, answer.words.lower())
    if gold.value is None or answer.value is None:
        return False
    if isinstance(answer.value, CONGRUENT) and isinstance(gold.value, CONGRUENT):
        return gold.value == answer.value or UNNAMED in answer.value.args and gold.value.args[1:] == answer.value.args[1:]
    if _OPERATION.search(answer.text) and not _OPERATION.search(gold.text):
        return False
    if gold.clock and answer.clock and (gold.clock[1] or answer.clock[1]):
        return same_time(gold.clock, answer.clock)
    if gold.based or answer.based:
        if gold.based and answer.based:
            return gold.value == answer.value
        one, other = (gold, answer) if gold.based else (answer, gold)
        return one.based[0] == other.text.lstrip("0")
    lettered = _LETTER_UNIT.fullmatch(answer.text)
    if lettered and answer.unit is None and not gold.value.free_symbols:
        answer = read(rf"{lettered[1]} \text{{{lettered[2]}}}")
        return answer.value is not None and _same_quantity(gold, answer)
    return _same_quantity(gold, answer)


def _same_quantity(gold: Reading, answer: Reading) -> bool:
    mine, its = gold.unit, answer.unit
    if mine is None and its is None:
        return _same(gold.value, answer.value)
    if mine is not None and its is not None:
        return mine.agrees(its) and _same(scaled(gold.value, _factor(mine)), scaled(answer.value, _factor(its)))
    unit, value, bare = (mine, gold.value, answer.value) if its is None else (its, answer.value, gold.value)
    values = [] if unit.changes_sense else [value]
    if unit.dimension == (("angle", 1),) and not unit.label:
        values.append(scaled(value, _factor(unit) * pi / 180))
    if not unit.dimension and not unit.label and unit.factor != 1:
        values.append(scaled(value, _factor(unit)))
    return any(_same(each, bare) if its is None else _same(bare, each) for each in values)


def _factor(unit: Unit) -> Rational:
    return Rational(unit.factor.numerator, unit.factor.denominator)


def _same(gold: Basic, answer: Basic) -> bool:
    if isinstance(gold, FAMILY) and isinstance(answer, FAMILY):
        return same_family(gold, answer)
    if S.EmptySet in (gold, answer) and any(isinstance(each, (Relational, And)) and not each.has(S.EmptySet) for each in (gold, answer)):
        return False  # what is never true is no way to say that there is no solution
    if any(isinstance(each, Eq) and isinstance(each.rhs, Set) and each.rhs is not S.EmptySet for each in (gold, answer)) and None not in (
        solutions(gold),
        solutions(answer),
    ):
        return same_solutions(gold, answer)
    return (
        verify([gold], [answer], timeout_seconds=None, allow_set_relation_comp=True)
        or type(gold) is not type(answer)
        and same_solutions(gold, answer)
    )


def _searched(text: str) -> Reading | None:
    """What Math-Verify finds in prose, where it is told which numbers are in scientific notation."""
    text = re.sub(r"\\(?:approx|simeq|sim)(?![a-z])\s*", " ", re.sub(r"(?<=[\w})])\s*\\(?:approx|simeq)(?![a-z])", " =", text))
    text = _SCIENTIFIC.sub(_in_dollars, text)
    found = parse(text, parsing_timeout=None)
    if not found:
        return None
    value = next((settled(each) for each in found if isinstance(each, (Basic, MatrixBase))), None)
    return Reading(str(found[-1]), value)


def _in_dollars(number: re.Match[str]) -> str:
    r"""A number in scientific notation as LaTeX, in dollar signs where it stands outside of them."""
    latex = rf"{number['sign']}{number['digits']} \times 10^{{{int(number['power'].replace(' ', ''))}}}"
    before = number.string[: number.start()]
    inside = before.count("$") % 2 or before.count(r"\(") > before.count(r"\)") or before.count(r"\[") > before.count(r"\]")
    return latex if inside else f"${latex}$"
