"""The checks of any text that a model will read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from luffy.data.encoded_text import decoded
from luffy.data.finding import Finding, finding
from luffy.errors import InputError

_SIGNS_OF_WRONG_DECODING = ("\x00", "\ufffd", "\x08", "\x0c")


class TextChecker:
    """Finds special tokens and signs of wrong decoding.

    Args:
        special_tokens: texts that a prompt or trace must not contain, as they would end or forge a turn.
    """

    def __init__(self, special_tokens: Sequence[str]) -> None:
        self._special_tokens = special_tokens

    def check(self, number: int, where: str, text: str) -> Iterator[Finding]:
        """Findings in one text of a row."""
        token = next((token for token in self._special_tokens if token in text), None)
        if token:
            yield finding(number, "special_token", where=where, token=token)
        if any(sign in text for sign in _SIGNS_OF_WRONG_DECODING):
            yield finding(number, "broken_text", where=where)


def is_encoded(text: str) -> bool:
    """Whether a text encodes a list or an object, or did before it was cut."""
    try:
        return not isinstance(decoded(text), str)
    except (InputError, RecursionError):
        return True


def is_message(value: Any) -> bool:
    """Whether a value is a message whose role and content are text."""
    texts = (value.get("role"), value.get("content")) if isinstance(value, dict) else (None,)
    return all(isinstance(text, str) for text in texts)
