r"""Texts: what one says that encodes data, and when two of them are the same.

Spreadsheets, CSV and careless writers leave JSON, Python's ``repr`` or numpy's (without commas) in a cell that should hold a
list, a chat or an object. What begins like one of these is read where there is one way to read it, and refused where
there is none; other text is left alone.
"""

from __future__ import annotations

import ast
import json
import re
import unicodedata
import warnings
from typing import Any

from luffy.digests import key_digest
from luffy.errors import InputError
from luffy.rewards.characters import plain_characters

MAX_DIGITS = 4000
"""Longest integer that becomes a number; Python refuses to turn longer ones into text and back."""
SHOWN_CHARS = 60
_DOUBLE_CHARS = 25  # longest usual spelling of a 64-bit float; longer ones would lose digits

_CALL = re.compile(r"(?:(?:np\.|numpy\.)?(?:array|str_|u?int\d+|float\d+)|Decimal)")  # around what repr writes
_BEGINS = re.compile(
    rf"""{_CALL.pattern}\(|\(\s*["']|\{{\s*["']"""
    r"""|\[\s*(?:\]|(?:\[\s*)*(?:["']|\{\s*["'}]|(?:None|null|nan)\b|array\())"""
)
_DTYPE = re.compile(r"""(['"\])])\s*,\s*dtype=(?:\w+|'[^']*')\)""")
_CHAT = re.compile(r"""\[?\s*\{\s*["'](?:role|content|from|value|ground_truth|style)["']\s*:""")
_TOKEN = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[\[\]{}(),:]|\s+|[^\s\[\]{}(),:'"]+|.""", re.DOTALL)
_LOST_ESCAPES = re.compile("[\x00\x07\x08\x0b\x0c]")  # what \a, \b, \v and \f of unescaped LaTeX become

_LATEX_SPACING = re.compile(r"\\(?:left|right|displaystyle|qquad|quad)(?![a-zA-Z])|\\[,;:!> ]|~|\{,\}(?=\d{3})")
_WRAPPED = re.compile(r"\\(?:text|mbox|mathrm|mathbf|textbf|textit|operatorname)\s*\{([^{}]*)\}")
_ONE_IN_BRACES = re.compile(r"\{(\w|\\[a-z]+)\}")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
_LATEX_MARKS = re.compile(r"\\[()\[\]]|\$")
_FRACTION = re.compile(r"\\[cdt]frac(?![a-zA-Z])")
_SPACE_AND_STOPS = re.compile(r"[\s?]+|(?<!\d)\.|\.(?!\d)")


def load_json(text: str | bytes, **options: Any) -> Any:
    """Parse JSON; an integer or float that a Python number cannot hold stays text.

    Raises:
        ValueError: where it is no JSON.
        RecursionError: where it is nested too deeply.
    """
    return json.loads(text, **NUMBERS, **options)


NUMBERS: dict[str, Any] = {
    "parse_int": lambda text: int(text) if len(text) <= MAX_DIGITS else text,
    "parse_float": lambda text: float(text) if len(text) <= _DOUBLE_CHARS else text,
}


def decoded(text: str) -> Any:
    """The list or object that a text encodes, or the text itself.

    Lists and tuples of numbers alone are mathematics (``[1, 2]``, ``[[1, 0], [0, 1]]``) and stay text, as do sets.

    Raises:
        InputError: where a text begins as a chat or list and cannot be read as one.
    """
    stripped = text.strip()
    if stripped[:1] == '"' == stripped[-1:]:
        return _unquoted(stripped, text)
    if not _BEGINS.match(stripped):
        return text
    value = _parsed(stripped)
    if value is None:
        if stripped[0] != "(" and (_CHAT.match(stripped) or not _goes_on(stripped)):
            raise InputError(
                f"the text {shown(stripped)} begins as data but cannot be read as JSON or a Python list; give the list itself, or mend it"
            )
        return text
    if stripped[0] in "[({" and (not isinstance(value, (list, tuple, dict)) or (value and not _has_text(value))):
        return text
    _require_escapes(value, stripped)
    return list(value) if isinstance(value, tuple) else value


def is_encoded(text: str) -> bool:
    """Whether a text encodes a list or an object, or did before it was cut."""
    try:
        return not isinstance(decoded(text), str)
    except (InputError, RecursionError):
        return True


def shown(text: str) -> str:
    """The beginning of a text, for a message of one line."""
    return repr(text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + "...")


def _unquoted(stripped: str, text: str) -> Any:
    """What a JSON string with escapes says; quotation marks around other text are its own."""
    try:
        value = json.loads(stripped)
    except (ValueError, RecursionError):
        return text
    if "\\" not in stripped or _LOST_ESCAPES.search(value):
        return text
    return decoded(value)


def _parsed(text: str) -> Any:
    try:
        return load_json(text, strict=False)
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an escape that Python does not know: no repr wrote this
            return ast.literal_eval(_with_commas(text))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def _goes_on(text: str) -> bool:
    """Whether other text follows the bracket that closes the first one: prose about a list, not a list."""
    depth = 0
    for token in _TOKEN.finditer(text):
        depth += (token[0] in "[{(") - (token[0] in "]})")
        if depth == 0 and token[0] in "]})":
            return token.end() < len(text)
    return False


def _with_commas(text: str) -> str:
    """The text without calls, with None for nan and a comma where only space parts two values, as numpy writes arrays."""
    parts: list[str] = []
    ended = False  # whether a value ended last
    for part in _TOKEN.findall(_DTYPE.sub(r"\1)", text)):
        if part.isspace():
            parts.append(" ")
        if part.isspace() or _CALL.fullmatch(part):
            continue
        begins = part[0] in "'\"[{(" or part[0] not in "]}),:"
        if ended and begins and (parts[-1] == " " or part[0] in "'\""):
            parts.append(",")
        parts.append("None" if part == "nan" else part)
        ended = part[0] not in "[{(,:"
    return "".join(parts)


def _has_text(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_has_text, value))
    return isinstance(value, (str, dict))


def _texts(value: Any) -> Any:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def _require_escapes(value: Any, text: str) -> None:
    if any(_LOST_ESCAPES.search(inner) for inner in _texts(value)):
        raise InputError(
            f"the text {shown(text)} has control characters once it is read, as LaTeX whose backslashes are not doubled leaves; double them"
        )


def normalised(text: str) -> str:
    """The text without what typesetting changes: case, spaces, delimiters and fonts of mathematics, stops, Unicode signs.

    Operators, digits, decimal points and brackets stay, so that '3+4' and '3-4' remain two problems.
    """
    text = plain_characters(_INVISIBLE.sub("", unicodedata.normalize("NFC", text))).casefold()
    text = _WRAPPED.sub(r"\1", _LATEX_MARKS.sub("", _LATEX_SPACING.sub("", text)))
    return _SPACE_AND_STOPS.sub("", _ONE_IN_BRACES.sub(r"\1", _FRACTION.sub(r"\\frac", text)))


def prompt_key(question: str) -> bytes:
    """The key by which rows of the same problem are merged."""
    return key_digest(normalised(question))
