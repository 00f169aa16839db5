"""What can be said about a response before any algebra: gate, answer, equal texts and numbers, or that a comparison is needed.

For strings, plain decimals and fractions each rule says what Math-Verify would say (``tests/test_rewards_agreement.py`` compares
them); where it is not certain it says nothing. Scientific numbers are the one deliberate difference: Math-Verify reads ``4.5e33``
as 4.5 times Euler's number times 33, and takes any two values below about 1e-18 as equal.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from fractions import Fraction

from luffy.rewards.answer import after_thought, as_text, boxed_answer, gold_answers, stated_value
from luffy.rewards.characters import plain_characters
from luffy.rewards.choice import choice_answer, choice_label
from luffy.rewards.kinds import CHOICE, EXACT, MATH, check_kind, reader_of, scores
from luffy.rewards.notation import answer_form, gold_forms
from luffy.rewards.prose import says_otherwise
from luffy.rewards.verdict import Reason, Verdict
from luffy.traces import THINK_CLOSE

logger = logging.getLogger(__name__)

ANSWER_CHARS = 2_000
"""Longest answer that the algebra system is given; the longest gold answer of the usual benchmarks has 210."""
STATED_CHARS = 20_000
"""How much of the end of a response without a box is searched for a statement of the answer."""
PROSE_CHARS = 1_000
"""How much of the end of a response without a box or a statement Math-Verify searches for an answer."""
BOXED, PROSE, READABLE = "boxed", "prose", "readable"
SCORED = "scored "
"""Begins the form of a comparison by the scorer of a registered kind, whose name follows."""


@dataclass(frozen=True)
class Comparison:
    """A comparison that a worker has to make: the algebra system, or a registered scorer.

    Attributes:
        form: ``BOXED`` where ``answer`` is an answer, ``PROSE`` where it is text to search, ``READABLE`` where only the gold
            answers are read, ``SCORED`` + kind where a registered scorer is asked.
        answer: that answer or text.
        golds: acceptable answers.
    """

    form: str
    answer: str
    golds: tuple[str, ...]

    @property
    def kind(self) -> str:
        """The registered kind whose scorer is asked; "" for the algebra system."""
        return self.form.removeprefix(SCORED) if self.form.startswith(SCORED) else ""


def settle(response: object, gold: object, *, kind: str, thought_gate: bool, truncated: bool) -> Verdict | Comparison:
    """The verdict on a response as far as its text decides it, or the comparison that decides it; arguments as of ``Grader.submit``.

    Raises:
        InputError: for an unknown kind.
    """
    check_kind(kind)
    text, golds = as_text(response), gold_answers(gold)
    if thought_gate and THINK_CLOSE not in text:
        return Verdict(Reason.TRUNCATED if truncated else Reason.GATE_FAILED)
    if not golds:
        return Verdict(Reason.ERROR)
    found = (_settle_math if kind == MATH else _settle_text)(kind, after_thought(text), golds)
    return explained(found, truncated) if isinstance(found, Verdict) else found


def to_read(gold: object, kind: str) -> Comparison | None:
    """The comparison that tells whether gold answers can be read as a whole; None where that is clear, if any is there."""
    golds = tuple(without_e_notation(gold_forms(boxed_answer(each) or each)[0]) for each in gold_answers(gold))
    golds = tuple(gold for gold in golds if not is_number(gold))
    return Comparison(READABLE, "", golds) if kind == MATH and golds else None


def explained(found: Verdict, truncated: bool) -> Verdict:
    """The verdict with ``TRUNCATED`` as its reason where nothing was found because the response was cut off."""
    return Verdict(Reason.TRUNCATED) if truncated and found.reason is Reason.NO_ANSWER else found


def _settle_math(kind: str, text: str, golds: tuple[str, ...]) -> Verdict | Comparison:
    golds = tuple(dict.fromkeys(form for gold in golds for form in gold_forms(boxed_answer(gold) or gold)))
    answer = boxed_answer(text) or stated_value(text[-STATED_CHARS:])
    if answer is None and text.strip():
        prose = plain_characters(text.strip()[-PROSE_CHARS:])
        return Verdict(Reason.NO_ANSWER) if says_otherwise(prose) else Comparison(PROSE, prose, tuple(map(without_e_notation, golds)))
    if not answer:
        return Verdict(Reason.NO_ANSWER)
    answer = answer_form(answer, golds)
    known = {gold: shortcut(answer, gold) for gold in golds}
    if True in known.values():
        return Verdict(Reason.CORRECT, answer)
    undecided = tuple(without_e_notation(gold) for gold in golds if known[gold] is None)
    if len(answer) > ANSWER_CHARS or not undecided:
        return Verdict(Reason.WRONG, answer)
    return Comparison(BOXED, without_e_notation(answer), undecided)


def _settle_text(kind: str, text: str, golds: tuple[str, ...]) -> Verdict | Comparison:
    if kind == CHOICE:
        answer = choice_answer(text)
        golds = tuple(choice_label(gold) or gold for gold in golds)
    elif kind == EXACT:
        answer = text.strip() or None
    else:
        read = reader_of(kind)
        try:
            answer = read(text)
        except Exception:  # another package's code on untrusted text: counted by the reason
            logger.warning("the reader of kind %r failed on a response", kind, exc_info=True)
            return Verdict(Reason.ERROR)
    if answer is None:
        return Verdict(Reason.NO_ANSWER)
    if scores(kind):
        return Comparison(SCORED + kind, answer, golds)
    return Verdict(Reason.CORRECT if answer in golds else Reason.WRONG, answer)


# Equal without algebra --------------------------------------------------------------------------------------------------------

_PLAIN = re.compile(r"-?[0-9]{1,9}(?:\.[0-9]{1,6})?")
_FRACTION = re.compile(r"(-?)(?:\\frac\{(-?[0-9]{1,9})\}\{([0-9]{1,9})\}|([0-9]{1,9})/([0-9]{1,9}))")
_SCIENTIFIC = re.compile(
    r"(-?[0-9]{1,15}(?:\.[0-9]{1,15})?)(?:[eE]([+-]?[0-9]{1,3})|\s*\\(?:times|cdot)\s*10\s*\^\s*(?:\{\s*([+-]?[0-9]{1,3})\s*\}|([0-9])))"
)
_SURE_E_NOTATION = re.compile(  # 2e-3 can be 2e - 3
    r"(?<![\w.\\^_{])((?:1|[0-9]{1,15}\.[0-9]{1,15})(?=[eE])|[0-9]{1,15}(?=[eE]\+?[0-9]))[eE]([+-]?[0-9]{1,3})(?![\w.])"
)
_SET_E_NOTATION = re.compile(
    r"(?<![\w.])(-?[0-9]{1,15}\.[0-9]{1,15})\s*(?:[eE](?=-?[0-9])|\\(?:text|mathrm)\s*\{\s*[eE]\s*\})\s*\{?([+-]?[0-9]{1,3})\}?(?![\w.])"
)
_LOOKS = re.compile(r"\\(?:left|right)(?![A-Za-z])|(?<=\\)[dt](?=frac(?![A-Za-z]))")


def shortcut(answer: str, gold: str) -> bool | None:
    """Whether an answer equals an acceptable one, as far as their texts decide it; None where the algebra system has to decide."""
    answer, gold = _bare(answer), _bare(gold)
    if answer == gold and any(character.isalnum() for character in answer):
        return True
    one, other = _number(answer), _number(gold)
    if one is None or other is None:
        return None
    fraction = _FRACTION.fullmatch(answer) or _FRACTION.fullmatch(gold)
    return None if fraction and re.search("[.eE^]", answer + gold) else one == other  # a decimal can be a rounded fraction


def is_number(text: str) -> bool:
    """Whether a text is a plain or scientific number, or a fraction of integers: what can be read without algebra."""
    return _number(_bare(text)) is not None


def without_e_notation(text: str) -> str:
    r"""The text with ``4.5e33`` as ``4.5 \times 10^{33}``, which Math-Verify reads, wherever it can mean nothing else."""
    if "e" not in text and "E" not in text:
        return text
    text = _SET_E_NOTATION.sub(r"\1e\2", text)
    return _SURE_E_NOTATION.sub(lambda parts: rf"{parts[1]} \times 10^{{{int(parts[2])}}}", text)


def _number(text: str) -> Fraction | None:
    if _PLAIN.fullmatch(text):
        return Fraction(text)
    if parts := _SCIENTIFIC.fullmatch(text):
        return Fraction(f"{parts[1]}e{parts[2] or parts[3] or parts[4]}")
    parts = _FRACTION.fullmatch(text)
    if parts is None or not int(parts[3] or parts[5]):
        return None
    return Fraction(int(parts[1] + "1") * int(parts[2] or parts[4]), int(parts[3] or parts[5]))


def _bare(text: str) -> str:
    """The text without outer spaces, outer dollar signs and marks that only concern its looks."""
    text = _LOOKS.sub("", text.strip())
    return text[1:-1].strip() if len(text) > 2 and text[0] == text[-1] == "$" and text.count("$") == 2 else text
