"""When two texts are the same: exactly, or after normalisation."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from luffy.rewards.characters import plain_characters

_LATEX_SPACING = re.compile(r"\\(?:left|right|displaystyle|qquad|quad)(?![a-zA-Z])|\\[,;:!> ]|~|\{,\}(?=\d{3})")
_WRAPPED = re.compile(r"\\(?:text|mbox|mathrm|mathbf|textbf|textit|operatorname)\s*\{([^{}]*)\}")
_ONE_IN_BRACES = re.compile(r"\{(\w|\\[a-z]+)\}")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
_LATEX_MARKS = re.compile(r"\\[()\[\]]|\$")
_FRACTION = re.compile(r"\\[cdt]frac(?![a-zA-Z])")
_SPACE_AND_STOPS = re.compile(r"[\s?]+|(?<!\d)\.|\.(?!\d)")


def normalised(text: str) -> str:
    """The text without what typesetting changes: case, spaces, delimiters and fonts of mathematics, stops, Unicode signs.

    Operators, digits, decimal points and brackets stay, so that '3+4' and '3-4' remain two problems.
    """
    text = plain_characters(_INVISIBLE.sub("", unicodedata.normalize("NFC", text))).casefold()
    text = _WRAPPED.sub(r"\1", _LATEX_MARKS.sub("", _LATEX_SPACING.sub("", text)))
    return _SPACE_AND_STOPS.sub("", _ONE_IN_BRACES.sub(r"\1", _FRACTION.sub(r"\\frac", text)))


def digest(text: str) -> bytes:
    """16 bytes that stand for the text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def prompt_key(question: str) -> bytes:
    """The key by which rows of the same problem are merged."""
    return digest(normalised(question))
