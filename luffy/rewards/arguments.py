r"""Arguments of LaTeX commands in braces, which TeX does not need: ``\frac\pi4``, ``\sqrt\frac12``, ``\frac1\sqrt{3}``."""

from __future__ import annotations

import re

_TAKES = re.compile(r"\\(?:(frac|binom)|sqrt)(?![A-Za-z])(?:\s*\[[^\[\]]*\])?|[\^_](?=\s*\\(?:frac|binom|sqrt)(?![A-Za-z]))")
_ONE = re.compile(r"\\[A-Za-z]+|[0-9A-Za-z]")
UNBRACED = re.compile(r"\\frac\{(?:[^{}]|\{[^{}]*\})*\}(?!\{)")
"""A fraction whose second argument has no braces."""


def arguments_braced(text: str) -> str:
    r"""A text of single spaces with braces around arguments of fractions, binomials, roots and powers; a root's letter or digit stays."""
    for found in reversed(list(_TAKES.finditer(text))):  # from the right: what an argument holds has its braces by then
        place, braced = found.end(), ""
        for _ in range(2 if found[1] else 1):
            start = place + text[place : place + 1].isspace()
            if (end := _end(text, start)) is None or not found[1] and text[start].isalnum():
                break
            argument = text[start:end]
            braced, place = braced + (argument if argument[0] == "{" else f"{{{argument}}}"), end
        else:
            text = text[: found.end()] + braced + text[place:]
    return text


def _end(text: str, start: int) -> int | None:
    """Where an argument ends: a group, a letter, a digit, or a command with its arguments in braces; None where there is none."""
    if text.startswith("{", start):
        return _end_of_group(text, start)
    command = _TAKES.match(text, start)
    if command is None or command[0][0] != "\\":
        one = _ONE.match(text, start)
        return one and one.end()
    end: int | None = command.end()
    for _ in range(2 if command[1] else 1):
        if end is None or not text.startswith("{", end):
            return None
        end = _end_of_group(text, end)
    return end


def _end_of_group(text: str, start: int) -> int | None:
    depth = 0
    for brace in re.finditer(r"(?<!\\)[{}]", text[start:]):
        depth += 1 if brace[0] == "{" else -1
        if not depth:
            return start + brace.end()
    return None
