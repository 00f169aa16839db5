r"""Answers that need no algebra system: equal strings, plain or scientific numbers, fractions of integers.

For strings, plain decimals and fractions each rule says what Math-Verify would say (``tests/test_rewards_agreement.py`` compares
them); where it is not certain it says nothing. Scientific numbers are the one deliberate difference: Math-Verify reads
``4.5e33`` as 4.5 times Euler's number times 33, and takes any two values below about 1e-18 as equal.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

_PLAIN = re.compile(r"-?[0-9]{1,9}(?:\.[0-9]{1,6})?")
_FRACTION = re.compile(r"(-?)(?:\\frac\{(-?[0-9]{1,9})\}\{([0-9]{1,9})\}|([0-9]{1,9})/([0-9]{1,9}))")
_E_NOTATION = re.compile(r"(-?[0-9]{1,15}(?:\.[0-9]{1,15})?)[eE]([+-]?[0-9]{1,3})")
_SURE_E_NOTATION = re.compile(  # 2e-3 can be 2e - 3
    r"(?<![\w.\\^_{])((?:1|[0-9]{1,15}\.[0-9]{1,15})(?=[eE])|[0-9]{1,15}(?=[eE]\+?[0-9]))[eE]([+-]?[0-9]{1,3})(?![\w.])"
)
_SET_E_NOTATION = re.compile(
    r"(?<![\w.])(-?[0-9]{1,15}\.[0-9]{1,15})\s*(?:[eE](?=-?[0-9])|\\(?:text|mathrm)\s*\{\s*[eE]\s*\})\s*\{?([+-]?[0-9]{1,3})\}?(?![\w.])"
)
_POWER_OF_TEN = re.compile(r"(-?[0-9]{1,15}(?:\.[0-9]{1,15})?)\s*\\(?:times|cdot)\s*10\s*\^\s*(?:\{\s*([+-]?[0-9]{1,3})\s*\}|([0-9]))")
_LOOKS = re.compile(r"\\(?:left|right)(?![A-Za-z])|(?<=\\)[dt](?=frac(?![A-Za-z]))")


def shortcut(answer: str, gold: str) -> bool | None:
    """Whether two answers are equal, as far as their text decides it.

    Args:
        answer: the final answer of a response.
        gold: one acceptable answer.

    Returns:
        True or False where certain, None where the algebra system has to decide.
    """
    answer, gold = _plain(answer), _plain(gold)
    if answer == gold and any(character.isalnum() for character in answer):
        return True
    if "." not in answer + gold:  # a decimal equals a fraction if it does when rounded
        fractions = _fraction(answer), _fraction(gold)
        if None not in fractions:
            return fractions[0] == fractions[1]
    numbers = _number(answer), _number(gold)
    return None if None in numbers else numbers[0] == numbers[1]


def is_number(text: str) -> bool:
    """Whether a text is a plain or scientific number, or a fraction of integers: what can be read without algebra."""
    text = _plain(text)
    return _fraction(text) is not None or _number(text) is not None


def without_e_notation(text: str) -> str:
    r"""The text with ``4.5e33`` as ``4.5 \times 10^{33}``, which Math-Verify reads, wherever it can mean nothing else."""
    if "e" not in text and "E" not in text:
        return text
    text = _SET_E_NOTATION.sub(r"\1e\2", text)
    return _SURE_E_NOTATION.sub(lambda parts: rf"{parts[1]} \times 10^{{{int(parts[2])}}}", text)


def _fraction(text: str) -> Fraction | None:
    if _PLAIN.fullmatch(text):
        return Fraction(text)
    parts = _FRACTION.fullmatch(text)
    if parts is None or not int(parts[3] or parts[5]):
        return None
    size = Fraction(int(parts[2] or parts[4]), int(parts[3] or parts[5]))
    return -size if parts[1] else size


def _number(text: str) -> Decimal | None:
    if _PLAIN.fullmatch(text):
        return Decimal(text)
    parts = _E_NOTATION.fullmatch(text) or _POWER_OF_TEN.fullmatch(text)
    return Decimal(f"{parts[1]}e{parts[parts.lastindex]}") if parts else None


def _plain(text: str) -> str:
    """The text without outer spaces, outer dollar signs and marks that only concern its looks."""
    text = _LOOKS.sub("", text.strip())
    return text[1:-1].strip() if len(text) > 2 and text[0] == text[-1] == "$" and text.count("$") == 2 else text
