r"""Lists of values in one form: lines and aligned rows with commas, ``\pm`` written out, ``k \in \mathbb{Z}`` in one spelling."""

from __future__ import annotations

import re
from itertools import product

_FREE_SIGNS = 3
"""Most plus-minus signs of one value that are written out."""

_CASES = re.compile(r"^(?:\\\{\s*)?\\begin\{(cases|aligned|array|gathered)\}(?:\{[lcr|]*\})?(.*)\\end\{\1\}$", re.DOTALL)
_LINE_BREAK = re.compile(r"\s*,?\s*\\\\(?:\[[^\]]*\])?\s*")
_ROW_END = re.compile(r"\n|\\\\(?:(?=[A-Za-z]\s?=)|\[[^\]]*\]|(?![A-Za-z]))")
_BRACKETS = re.compile(r"\\begin|\\end|\\[{}]|[\[\](){},;]")
_OPENING, _CLOSING = {"\\begin", "\\{", "[", "(", "{"}, {"\\end", "\\}", "]", ")", "}"}
_COLUMN = re.compile(r"\s*,?\s*\\q?quad(?![A-Za-z])\s*")
_VALUE = re.compile(r"(?:[A-Za-z]\w? ?= ?)?-?(?:[0-9.]+|\\[dt]?frac\{[0-9]+\}\{[0-9]+\})")
_WHOLE_LINE = re.compile(r"(?:\S.*)?[^-+*/=<>,&\\({\[\s]")
_PARAMETER = re.compile(
    r"^(?:[a-zA-Z]\s*=\s*)?(.+?)\s*,?\s*(?:\\text\{\s*(?:,\s*)?(?:where|for|with|for all|for any|for some)?\s*\}|\(|where|for)?\s*"
    r"([a-zA-Z])\s*(?:\\in\s*(?:\\mathbb\{)?([ZN])\}?|\\text\{\s*(?:is |being )?(?:an |any |some )?(integer)\s*\}|is an (integer))\s*\)?$"
)


def listed(text: str) -> str:
    """Lines with a value each as one list with commas: of a box, or of an environment that only aligns.

    Args:
        text: an answer of plain characters.

    Returns:
        The same answer, or the text itself where it is something else.
    """
    environment = _CASES.match(text.strip())
    if environment:
        rows = [row.replace("&=", "=").replace("=&", "=").strip().lstrip("&") for row in _LINE_BREAK.split(environment[2])]
        rows = [row.strip().rstrip(",") for row in rows if row.strip()]
        if rows and all(row.count("=") < 2 and "&" not in row and "," not in row and not _goes_on(row) for row in rows):
            return ", ".join(rows)
        return text
    if "\\begin" in text:
        return text
    columns = _COLUMN.split(text)
    if len(columns) > 1 and all(map(_VALUE.fullmatch, columns)):
        return ", ".join(columns)
    lines = [line.strip() for line in _ROW_END.split(text) if line.strip()]
    if len(lines) > 1 and all(map(_WHOLE_LINE.fullmatch, lines)) and not any(map(_goes_on, lines)):
        return ", ".join(lines)
    return text


def _goes_on(line: str) -> bool:
    """Whether a line continues the one before, or its brackets do not close."""
    return line[0] in "+*/=<>&)]}^_" or len(_parts(line, ()) or ()) != 1


def _parts(text: str, separators: tuple[str, ...] = (",", ";")) -> list[str] | None:
    """What separators outside brackets stand between; None where brackets do not match."""
    depth, start, parts = 0, 0, []
    for token in _BRACKETS.finditer(text):
        if token[0] in _OPENING:
            depth += 1
        elif token[0] in _CLOSING:
            depth -= 1
            if depth < 0:
                return None
        elif not depth and token[0] in separators:
            parts.append(text[start : token.start()].strip())
            start = token.end()
    return None if depth else [*parts, text[start:].strip()]


def signs_written_out(text: str) -> str:
    r"""``0, 1 \pm \sqrt{2}`` as ``0, 1 + \sqrt{2}, 1 - \sqrt{2}``; signs that stand together with ``\mp`` change together.

    Args:
        text: an answer of plain characters.

    Returns:
        The same answer, or the text itself where it is something else.
    """
    if "\\pm" not in text and "\\mp" not in text:
        return text
    if text.startswith("\\{") and text.endswith("\\}"):
        return rf"\{{{signs_written_out(text[2:-2])}\}}"
    parts = _parts(text)
    return text if parts is None else ", ".join(value for part in parts for value in _both(part))


def _both(part: str) -> list[str]:
    pieces = re.split(r"\\(pm|mp)(?![A-Za-z])\s*", part)
    signs = pieces[1::2]
    if not signs or len(signs) > _FREE_SIGNS:
        return [part]
    together = "mp" in signs
    values = []
    for ups in [(True,) * len(signs), (False,) * len(signs)] if together else product((True, False), repeat=len(signs)):
        value = pieces[0]
        for sign, up, piece in zip(signs, ups, pieces[2::2], strict=True):
            minus = up == (sign == "mp")
            value += "-" + piece if minus else ("+" if re.search(r"[\w)}\]]\s*$", value) else "") + piece
        values.append(value.strip())
    return values


def with_parameter(text: str) -> str:
    r"""``x = n\pi, n \in \mathbb{Z}``, in its many spellings, as ``k\pi, k \in \mathbb{Z}``.

    Args:
        text: an answer of plain characters.

    Returns:
        The same answer, or the text itself where it is something else.
    """
    found = _PARAMETER.match(text)
    if not found or "k" != found[2] and re.search(r"(?<![A-Za-z\\])k(?![A-Za-z])", found[1]):
        return text
    letter = rf"(?<![A-Za-z\\]){found[2]}(?![A-Za-z])"
    value = re.sub(letter, "k", found[1].rstrip(" ,("))
    return rf"{value}, k \in \mathbb{{{found[3] or 'Z'}}}" if re.search(r"(?<![A-Za-z\\])k(?![A-Za-z])", value) else text
