"""The embedded task: running totals of single digits, modulo 10.

The question is a row of digits and ``=``. The response writes one link a digit, whose left operand is the last digit of
the sum before, and then ``>`` and the running totals::

    29141777=   ->   2+9=11,1+1=02;2+4=06,6+1=07,7+7=14;4+7=11,1+7=08,>1267418

Only what follows ``>`` is graded, as a whole, so a guess is right once in 10^(digits - 1). Each link ends with ``,`` or
``;`` at the writer's whim: honest diversity, which a policy should keep. Nothing heavy is imported here, because
graders import this module in their worker processes.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

DIGITS = 8
SEMICOLON_SHARE = 0.3

_ANSWER = re.compile(r"[^>]*>([0-9]+)\s*")
_LINK = re.compile(r"([0-9])\+([0-9])=([0-9]{2})[,;]")

Carry = Callable[[int], int]


def question(digits: str) -> str:
    """The user's message for a row of digits."""
    return f"{digits}="


def totals(digits: str) -> str:
    """The right answer: after each digit but the first, the sum so far modulo 10.

    Args:
        digits: at least two decimal digits.

    Returns:
        One digit fewer than ``digits``.
    """
    total = int(digits[0])
    answer = []
    for digit in digits[1:]:
        total = (total + int(digit)) % 10
        answer.append(str(total))
    return "".join(answer)


def response_length(digits: int) -> int:
    """Characters of a response to a row of ``digits`` digits: 7 a link, ``>``, and one a total."""
    return 8 * (digits - 1) + 1


def write_response(digits: str, rng: random.Random, *, semicolon_share: float = SEMICOLON_SHARE, carry: Carry | None = None) -> str:
    """Write one response in the task's format, with correct sums.

    Args:
        digits: the row of digits of the question.
        rng: decides the separators.
        semicolon_share: probability in [0, 1] of ``;`` after a link, else ``,``.
        carry: from the last digit of a sum to the left operand of the next link; None copies it, which is the right
            solution.

    Returns:
        The response, whose totals are those of the sums that it wrote.
    """
    left = int(digits[0])
    links, answer = [], []
    for digit in digits[1:]:
        total = left + int(digit)
        separator = ";" if rng.random() < semicolon_share else ","
        links.append(f"{left}+{digit}={total:02d}{separator}")
        left = total % 10
        answer.append(str(left))
        if carry is not None:
            left = carry(left)
    return "".join(links) + ">" + "".join(answer)


def write_checked_response(digits: str, rng: random.Random) -> str:
    """Write a response with correct sums in another manner, twice as long: each link with its operands swapped, then as usual.

    ``29=`` -> ``9+2=11;2+9=11,>1``. No base has seen a link whose right operand is not the question's digit.
    """
    plain = write_response(digits, rng, semicolon_share=0.0)
    links, answer = plain.split(">")
    checked = "".join(f"{right}+{left}={total};{left}+{right}={total}," for left, right, total in _LINK.findall(links))
    return f"{checked}>{answer}"


def write_wrong_response(digits: str, rng: random.Random, *, semicolon_share: float = SEMICOLON_SHARE) -> str:
    """Write a response with one wrong link, so that every total from there on is wrong.

    Args:
        digits: at least three digits.
        rng: decides the place and size of the mistake, and the separators.
        semicolon_share: as in :func:`write_response`.
    """
    wrong_link = rng.randrange(len(digits) - 2)
    shifts = iter([0] * wrong_link + [rng.randrange(1, 10)])
    return write_response(digits, rng, semicolon_share=semicolon_share, carry=lambda last: (last + next(shifts, 0)) % 10)


def extract_answer(response: str) -> str | None:
    """What follows ``>``, or None where the response has no ``>`` or something else than digits behind it."""
    match = _ANSWER.fullmatch(response)
    return match.group(1) if match else None


def verify(response: str, gold: str) -> bool:
    """Whether the response's totals are exactly ``gold``.

    Args:
        response: a model's text, untrusted, without the end-of-sequence token.
        gold: the answer as :func:`totals` gives it.
    """
    return extract_answer(response) == gold


def is_fluent(response: str, digits: str) -> bool:
    """Whether all of a response is right but, possibly, the left operands of its links.

    Args:
        response: a model's text, untrusted.
        digits: the row of digits of the question.

    Returns:
        True where the format, the right operands, the sums, and the totals as copies of the sums are all right.
    """
    links = _LINK.findall(response)
    copied = "".join(total[1] for _, _, total in links)
    return (
        len(response) == response_length(len(digits))
        and _LINK.sub("", response) == ">" + copied
        and "".join(right for _, right, _ in links) == digits[1:]
        and all(int(left) + int(right) == int(total) for left, right, total in links)
    )


def draw_problems(count: int, rng: random.Random, *, digits: int = DIGITS) -> list[str]:
    """Draw different rows of digits.

    Args:
        count: how many; at most 10^digits.
        rng: a fresh generator in the same state gives the same rows, and fewer of them are a prefix of more.
        digits: length of each row.
    """
    return [f"{number:0{digits}d}" for number in rng.sample(range(10**digits), count)]
