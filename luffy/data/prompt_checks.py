"""The checks of a row's prompt and labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luffy.data import schema
from luffy.data.finding import Finding, finding
from luffy.data.gold import final_answer
from luffy.data.sentinels import is_sentinel
from luffy.data.text_checks import TextChecker, is_encoded, is_message
from luffy.data.text_keys import prompt_key
from luffy.traces import PROMPT

Row = dict[str, Any]
_SHOWN_CHARS = 60


class PromptChecker:
    """Checks prompts, and remembers them to find the same one again.

    Args:
        texts: checks the text of messages.
        unique: whether a prompt may be there only once.
    """

    def __init__(self, texts: TextChecker, *, unique: bool) -> None:
        self._texts = texts
        self._unique = unique
        self._first: dict[bytes, int] = {}

    def check(self, number: int, row: Row) -> Iterator[Finding]:
        """Findings in the prompt of one row."""
        messages = row[PROMPT]
        if not messages:
            yield finding(number, "prompt_missing")
            return
        null = next((i for i, message in enumerate(messages) if not is_message(message)), None)
        if null is not None:
            yield finding(number, "prompt_message_null", i=null)
            return
        yield from _check_roles(number, [message["role"] for message in messages])
        question = "\n".join(message["content"] for message in messages if message["role"] != "system")
        if not question.strip():
            yield finding(number, "prompt_empty")
            return
        encoded = next((i for i, message in enumerate(messages) if is_encoded(message["content"])), None)
        if encoded is not None:
            yield finding(number, "text_encoded", where=f"prompt[{encoded}]")
        yield from self._texts.check(number, PROMPT, "\n".join(message["content"] for message in messages))
        first = self._first.setdefault(prompt_key(question), number) if self._unique else number
        if first != number:
            yield finding(number, "prompt_duplicate", first=first)


class LabelChecker:
    """Checks gold answers, data sources and row numbers.

    Args:
        unique: whether a row number may be there only once.
    """

    def __init__(self, *, unique: bool) -> None:
        self._unique = unique
        self._first: dict[int, int] = {}

    def check(self, number: int, row: Row) -> Iterator[Finding]:
        """Findings in the labels of one row."""
        reward = row[schema.REWARD_MODEL] or {}
        yield from _check_gold(number, (reward.get("ground_truth") or "").strip(), reward.get("note"))
        if reward.get("style") != "rule":
            yield finding(number, "reward_style", style=reward.get("style"))
        for column in (schema.DATA_SOURCE, schema.ABILITY):
            if not (row[column] or "").strip():
                yield finding(number, f"{column}_missing")
        index = (row[schema.EXTRA_INFO] or {}).get("index")
        if index is None:
            yield finding(number, "index_missing")
        elif self._unique and self._first.setdefault(index, number) != number:
            yield finding(number, "index_duplicate", first=self._first[index], index=index)


def _check_gold(number: int, gold: str, note: str | None) -> Iterator[Finding]:
    if not gold:
        yield finding(number, "gold_missing", note=f" ({note})" if note else "")
    elif is_encoded(gold):
        yield finding(number, "gold_encoded", gold=gold[:_SHOWN_CHARS])
    elif is_sentinel(final_answer(gold)):
        yield finding(number, "gold_sentinel", gold=gold[:_SHOWN_CHARS])


def _check_roles(number: int, roles: list[str]) -> Iterator[Finding]:
    for i, role in enumerate(roles):
        if role not in schema.ROLES:
            yield finding(number, "prompt_role", i=i, role=role)
        if role == "system" and i > 0:
            yield finding(number, "prompt_system_late", i=i)
    if roles[-1] != "user":
        yield finding(number, "prompt_not_user_last", role=roles[-1])
