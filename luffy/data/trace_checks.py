"""The checks of a row's traces and the columns beside them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from luffy.data.finding import Finding, finding
from luffy.data.reasons import THINK_DOUBLED, THINK_MISSING
from luffy.data.text_checks import TextChecker, is_encoded, is_message
from luffy.data.text_keys import digest
from luffy.data.think_tags import think_tag_fault
from luffy.traces import TARGET, TARGET_PROBS, TARGET_SOURCE

Row = dict[str, Any]


class TraceChecker:
    """Checks traces; whether think tags are missing, only the whole file shows.

    Args:
        texts: checks the text of messages.
        eos_token: text of the EOS token, which the trainer adds to each trace itself; None where it is not known.
    """

    def __init__(self, texts: TextChecker, eos_token: str | None) -> None:
        self._texts = texts
        self._eos = eos_token
        self._untagged: list[int] = []
        self._tagged = False

    def check(self, number: int, row: Row) -> Iterator[Finding]:
        """Findings in the traces of one row."""
        messages = row[TARGET]
        if not messages:
            yield finding(number, "trace_missing")
            return
        seen: set[bytes] = set()
        for i, message in enumerate(messages):
            if not is_message(message):
                yield finding(number, "trace_null", i=i)
                continue
            if message["role"] != "assistant":
                yield finding(number, "trace_role", i=i, role=message["role"])
            yield from self._check_text(number, i, message["content"])
            key = digest(message["content"].strip())
            if key in seen:
                yield finding(number, "trace_duplicate", i=i)
            seen.add(key)
        yield from _check_beside(number, row, len(messages))

    def finish(self) -> Iterator[Finding]:
        """Rows with a trace without think tags, if the file has any trace with them."""
        if self._tagged:
            yield from (finding(number, THINK_MISSING) for number in self._untagged)

    def _check_text(self, number: int, i: int, text: str) -> Iterator[Finding]:
        if not text.strip():
            yield finding(number, "trace_empty", i=i)
            return
        if is_encoded(text):
            yield finding(number, "text_encoded", where=f"target[{i}]")
        fault = think_tag_fault(text, prompt_opens=True)
        if fault == THINK_DOUBLED:
            yield finding(number, THINK_DOUBLED, i=i)
        elif fault:
            self._untagged.append(number)
        else:
            self._tagged = True
        if self._eos and text.rstrip().endswith(self._eos):
            yield finding(number, "eos_in_trace", i=i, token=self._eos)
            text = text.rstrip().removesuffix(self._eos)
        yield from self._texts.check(number, f"target[{i}]", text)


def trace_texts(row: Row) -> list[tuple[int, str]]:
    """(position, text) of the traces of a row that have text."""
    messages = enumerate(row.get(TARGET) or ())
    return [(i, message["content"]) for i, message in messages if is_message(message) and message["content"].strip()]


def _check_beside(number: int, row: Row, traces: int) -> Iterator[Finding]:
    for column in (TARGET_SOURCE, TARGET_PROBS):
        values = row.get(column)
        if values is not None and len(values) != traces:
            yield finding(number, f"{column}_count", count=len(values), traces=traces)
    for i, probabilities in enumerate(row.get(TARGET_PROBS) or ()):
        if any(p is None or not (math.isfinite(p) and 0 < p <= 1) for p in probabilities or ()):
            yield finding(number, "probs_range", i=i)
