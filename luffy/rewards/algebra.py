"""The comparison itself: Math-Verify on one answer and its gold answers. Imported by worker processes only.

Nothing here limits time or memory, and nothing is caught: :mod:`luffy.rewards.worker` does both.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

from latex2sympy2_extended.logic import And
from math_verify import parse, verify
from sympy import Basic, Eq, MatrixBase, Rational, S, Set, pi
from sympy.core.relational import Relational

from luffy.rewards.equality import FAMILY, replace_equality, same_family, same_solutions, solutions
from luffy.rewards.mends import mend_libraries, precisions
from luffy.rewards.quantity import Unit, same_time
from luffy.rewards.reading import CONGRUENT, UNNAMED, Reading, as_meant, read, scaled
from luffy.rewards.settle import BOXED, PROSE, READABLE
from luffy.rewards.verdict import Reason

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
    mend_libraries()
    replace_equality()
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its own (signal) time limits are off
    for comparison in _WARM_UP:
        compare(*comparison)


def compare(form: str, answer: str, golds: list[str]) -> tuple[Reason, str | None]:
    """``CORRECT``, ``WRONG``, ``NO_ANSWER`` or ``UNREADABLE`` (the gold answer), and the answer found; arguments as in ``Comparison``."""
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
    with precisions(gold.precisions, answer.precisions):
        return _same_answer(gold, answer)


def _same_answer(gold: Reading, answer: Reading) -> bool:
    if gold.text == answer.text and any(character.isalnum() for character in gold.text):
        return True
    if gold.words is not None or answer.words is not None:
        return answer.words is not None and gold.words in (answer.words, answer.words.lower())
    if gold.value is None or answer.value is None:
        return False
    if isinstance(answer.value, CONGRUENT) and isinstance(gold.value, CONGRUENT):
        unnamed = UNNAMED in (*gold.value.args, *answer.value.args)
        return gold.value == answer.value or unnamed and gold.value.args[1:] == answer.value.args[1:]
    if _OPERATION.search(answer.text) and not _OPERATION.search(gold.text):
        return False
    if gold.clock and answer.clock and (gold.clock[1] or answer.clock[1]):
        return same_time(gold.clock, answer.clock)
    if gold.based and answer.based:
        return bool(gold.value == answer.value)
    for one, other in ((gold, answer), (answer, gold)):
        if one.based:
            return one.based[0] == other.text.lstrip("0")
    lettered = _LETTER_UNIT.fullmatch(answer.text)
    if lettered and answer.unit is None and not gold.value.free_symbols:
        answer = read(rf"{lettered[1]} \text{{{lettered[2]}}}")
    return answer.value is not None and _same_quantity(gold.value, gold.unit, answer.value, answer.unit)


def _same_quantity(gold: Basic, unit: Unit | None, answer: Basic, its_unit: Unit | None) -> bool:
    if unit and its_unit:
        return unit.agrees(its_unit) and _same(scaled(gold, _factor(unit)), scaled(answer, _factor(its_unit)))
    if unit:
        return any(_same(value, answer) for value in _without_unit(gold, unit))
    if its_unit:
        return any(_same(gold, value) for value in _without_unit(answer, its_unit))
    return _same(gold, answer)


def _without_unit(value: Basic, unit: Unit) -> Iterator[Basic]:
    """The numbers that may stand for a quantity where the unit is missing: its own, degrees as radians, a share of one."""
    if not unit.changes_sense:
        yield value
    if unit.dimension == (("angle", 1),) and not unit.label:
        yield scaled(value, _factor(unit) * pi / 180)
    if not unit.dimension and not unit.label and unit.factor != 1:
        yield scaled(value, _factor(unit))


def _factor(unit: Unit) -> Rational:
    return Rational(unit.factor.numerator, unit.factor.denominator)


def _same(gold: Basic, answer: Basic) -> bool:
    both = (gold, answer)
    if isinstance(gold, FAMILY) and isinstance(answer, FAMILY):
        return same_family(gold, answer)
    if S.EmptySet in both and any(isinstance(each, (Relational, And)) and not each.has(S.EmptySet) for each in both):
        return False  # what is never true is no way to say that there is no solution
    in_set = any(isinstance(each, Eq) and isinstance(each.rhs, Set) and each.rhs is not S.EmptySet for each in both)
    if in_set and all(map(solutions, both)):
        return same_solutions(gold, answer)
    same = verify([gold], [answer], timeout_seconds=None, allow_set_relation_comp=True)
    return bool(same) or type(gold) is not type(answer) and same_solutions(gold, answer)


def _searched(text: str) -> Reading | None:
    """What Math-Verify finds in prose, where it is told which numbers are in scientific notation."""
    text = re.sub(r"\\(?:approx|simeq|sim)(?![a-z])\s*", " ", re.sub(r"(?<=[\w})])\s*\\(?:approx|simeq)(?![a-z])", " =", text))
    text = _SCIENTIFIC.sub(_in_dollars, text)
    with precisions() as written:
        found = parse(text, parsing_timeout=None)
        value = next((as_meant(each) for each in found if isinstance(each, (Basic, MatrixBase))), None)
    return Reading(str(found[-1]), value, precisions=written) if found else None


def _in_dollars(number: re.Match[str]) -> str:
    r"""A number in scientific notation as LaTeX, in dollar signs where it stands outside of them."""
    latex = rf"{number['sign']}{number['digits']} \times 10^{{{int(number['power'].replace(' ', ''))}}}"
    before = number.string[: number.start()]
    inside = before.count("$") % 2 or before.count(r"\(") > before.count(r"\)") or before.count(r"\[") > before.count(r"\]")
    return latex if inside else f"${latex}$"
