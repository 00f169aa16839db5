"""What can be said about a response before any algebra: gate, answer, and whether a comparison is needed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Number

from luffy.errors import InputError
from luffy.rewards.answer import THOUGHT_END, after_thought, as_text, boxed_answer
from luffy.rewards.characters import plain_characters
from luffy.rewards.choice import choice_answer, choice_label
from luffy.rewards.kinds import CHOICE, EXACT, KINDS, MATH, TINY
from luffy.rewards.notation import reading_for, readings
from luffy.rewards.shortcut import is_number, shortcut, without_e_notation
from luffy.rewards.statement import stated_value
from luffy.rewards.verdict import Reason, Verdict, verdict

ANSWER_CHARS = 2_000
"""Longest answer that the algebra system is given; the longest gold answer of the usual benchmarks has 210."""
STATED_CHARS = 20_000
"""How much of the end of a response without a box is searched for a statement of the answer."""
PROSE_CHARS = 1_000
"""How much of the end of a response without a box or a statement Math-Verify searches for an answer."""


@dataclass(frozen=True)
class Comparison:
    """A comparison that the algebra system has to make.

    Attributes:
        form: ``"boxed"`` where ``answer`` is the content of a box, ``"prose"`` where it is text to search, ``"readable"``
            where only the gold answers are read.
        answer: that content or text.
        golds: acceptable answers.
    """

    form: str
    answer: str
    golds: tuple[str, ...]


def settle(response: object, gold: object, *, kind: str, thought_gate: bool, truncated: bool) -> Verdict | Comparison:
    """Judge a response as far as its text decides it.

    Args:
        response: what the model wrote (str, bytes or None).
        gold: the acceptable answer or answers (str, number, or an iterable of them).
        kind: one of ``luffy.rewards.kinds.KINDS``.
        thought_gate: a response without ``</think>`` is wrong.
        truncated: the response ended at its length limit; only names the reason where nothing was found.

    Returns:
        The verdict, or the comparison that decides it.

    Raises:
        InputError: for an unknown kind.
    """
    if kind not in KINDS:
        raise InputError(f"unknown kind of answer {kind!r}: use one of {', '.join(KINDS)}")
    text = as_text(response)
    if thought_gate and THOUGHT_END not in text:
        return verdict(Reason.TRUNCATED if truncated else Reason.GATE_FAILED)
    golds = gold_answers(gold)
    if not golds:
        return verdict(Reason.ERROR)
    if kind == MATH:
        found = _settle_math(after_thought(text), golds)
    else:
        found = _settle_text(kind, after_thought(text), golds)
    return explained(found, truncated) if isinstance(found, Verdict) else found


def as_question(gold: object, kind: str) -> Comparison | None:
    """The comparison that tells whether gold answers can be read as a whole; None where that is clear, if any is there.

    Args:
        gold: the acceptable answer or answers.
        kind: one of ``luffy.rewards.kinds.KINDS``.
    """
    golds = tuple(without_e_notation(readings(boxed_answer(each) or each)[0]) for each in gold_answers(gold))
    golds = tuple(gold for gold in golds if not is_number(gold))
    return Comparison("readable", "", golds) if kind == MATH and golds else None


def explained(found: Verdict, truncated: bool) -> Verdict:
    """The verdict with ``TRUNCATED`` as its reason where nothing was found because the response was cut off."""
    return verdict(Reason.TRUNCATED) if truncated and found.reason is Reason.NO_ANSWER else found


def gold_answers(gold: object) -> tuple[str, ...]:
    """The acceptable answers as text: of a string or number itself, of an iterable its items; empty ones left out."""
    if gold is None:
        return ()
    if isinstance(gold, bytes):
        gold = gold.decode("utf-8", errors="replace")
    if not isinstance(gold, (str, Number)) and isinstance(gold, Iterable):
        return tuple(answer for item in gold for answer in gold_answers(item))
    text = str(gold).strip()
    return (text,) if text else ()


def _settle_math(text: str, golds: tuple[str, ...]) -> Verdict | Comparison:
    golds = tuple(dict.fromkeys(reading for gold in golds for reading in readings(boxed_answer(gold) or gold)))
    answer = boxed_answer(text) or stated_value(text[-STATED_CHARS:])
    if answer is None and text.strip():
        prose = plain_characters(text.strip()[-PROSE_CHARS:])
        return Comparison("prose", prose, tuple(map(without_e_notation, golds)))
    if not answer:
        return verdict(Reason.NO_ANSWER)
    answer = reading_for(answer, golds)
    known = {gold: shortcut(answer, gold) for gold in golds}
    if True in known.values():
        return verdict(Reason.CORRECT, answer)
    undecided = tuple(without_e_notation(gold) for gold in golds if known[gold] is None)
    if len(answer) > ANSWER_CHARS or not undecided:
        return verdict(Reason.WRONG, answer)
    return Comparison("boxed", without_e_notation(answer), undecided)


def _settle_text(kind: str, text: str, golds: tuple[str, ...]) -> Verdict:
    if kind == CHOICE:
        answer = choice_answer(text)
        golds = tuple(choice_label(gold) or gold for gold in golds)
    elif kind == TINY:
        from luffy.tiny.task import extract_answer

        answer = extract_answer(text)
    else:
        assert kind == EXACT
        answer = text.strip() or None
    if answer is None:
        return verdict(Reason.NO_ANSWER)
    return verdict(Reason.CORRECT if answer in golds else Reason.WRONG, answer)
