"""All checks of the rows of a training, evaluation or SFT file, some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from luffy.data import schema
from luffy.data.finding import Finding, finding
from luffy.data.lengths import TokenCounter
from luffy.data.prompt_checks import LabelChecker, PromptChecker
from luffy.data.sentinels import is_sentinel
from luffy.data.text_checks import TextChecker, is_encoded, is_message
from luffy.data.trace_checks import TraceChecker, trace_texts
from luffy.data.verification import Verify
from luffy.errors import InputError
from luffy.traces import PROMPT, TARGET, TARGET_PROBS, THINK_CLOSE, THINK_OPEN

Row = dict[str, Any]
_SHOWN_CHARS = 60


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Tokens that a rendered prompt, and (trace + EOS), may have; None leaves them unchecked."""

    prompt: int | None = None
    response: int | None = None


class RowChecker:
    """Checks rows in their order, and remembers what duplicates are found by.

    Args:
        kind: "train", "eval" or "sft".
        tokenizer: a Hugging Face tokenizer with EOS and chat template; None leaves lengths and tokens unchecked.
        limits: of lengths.
        verify: the verifier; None leaves answers unchecked.
    """

    def __init__(self, *, kind: str, tokenizer: Any, limits: Limits, verify: Verify | None) -> None:
        special = () if tokenizer is None else tokenizer.all_special_tokens
        texts = TextChecker([token for token in special if token not in (THINK_OPEN, THINK_CLOSE)])
        self._kind = kind
        self._prompts = PromptChecker(texts, unique=kind == "train")
        self._labels = LabelChecker(unique=kind == "train")
        self._traces = TraceChecker(texts, getattr(tokenizer, "eos_token", None))
        self._counter = None if tokenizer is None else TokenCounter(tokenizer)
        self._limits = limits
        self._verify = verify

    def check(self, first: int, rows: Sequence[Row | InputError]) -> Iterator[Finding]:
        """Findings in consecutive rows.

        Args:
            first: number of the first one.
            rows: values by column, or the error of a row that cannot be read.
        """
        numbered: dict[int, Row] = {}
        for number, row in enumerate(rows, first):
            if isinstance(row, InputError):
                yield finding(number, "row_unreadable", reason=row)
            else:
                numbered[number] = _from_messages(row) if self._kind == "sft" else row
        for number, row in numbered.items():
            yield from self._prompts.check(number, row)
            if self._kind != "sft":
                yield from self._labels.check(number, row)
            if self._kind != "eval":
                yield from self._traces.check(number, row)
        if self._counter is not None:
            yield from _check_lengths(numbered, self._counter, self._limits)
        if self._verify is not None and self._kind != "sft":
            yield from _check_answers(numbered, self._verify)

    def finish(self) -> Iterator[Finding]:
        """Findings that only the whole file shows."""
        return self._traces.finish()


def _check_lengths(rows: dict[int, Row], counter: TokenCounter, limits: Limits) -> Iterator[Finding]:
    rendered: dict[int, str] = {}
    for number, row in rows.items():
        if row[PROMPT] and all(map(is_message, row[PROMPT])):
            try:
                rendered[number] = counter.render(row[PROMPT])
            except InputError as error:
                yield finding(number, "chat_template", reason=error)
    for number, length in zip(rendered, counter.count(list(rendered.values())), strict=True):
        if limits.prompt is not None and length > limits.prompt:
            yield finding(number, "prompt_too_long", length=length, limit=limits.prompt)
    traces = [(number, i, text) for number in rendered for i, text in trace_texts(rows[number])]
    lengths = counter.count_traces([text for *_, text in traces], [rendered[number] for number, *_ in traces])
    for (number, i, _), length in zip(traces, lengths, strict=True):
        if limits.response is not None and length > limits.response:
            yield finding(number, "trace_too_long", i=i, length=length, limit=limits.response)
        probabilities = (rows[number].get(TARGET_PROBS) or [])[i : i + 1]
        if probabilities and probabilities[0] is not None and len(probabilities[0]) != length:
            yield finding(number, "probs_length", i=i, count=len(probabilities[0]), length=length)


def _check_answers(rows: dict[int, Row], verify: Verify) -> Iterator[Finding]:
    golds = {
        number: (_gold(row), row[schema.DATA_SOURCE] or "")
        for number, row in rows.items()
        if _gold(row) and not is_sentinel(_gold(row)) and not is_encoded(_gold(row))
    }
    for number, readable in zip(list(golds), verify.readable(list(golds.values())), strict=True):
        if not readable:
            yield finding(number, "gold_unreadable", gold=golds.pop(number)[0][:_SHOWN_CHARS])
    traces = [(number, i, text) for number in golds for i, text in trace_texts(rows[number])]
    verdicts = verify([(text, *golds[number]) for number, _, text in traces])
    for (number, i, _), verdict in zip(traces, verdicts, strict=True):
        if not verdict.correct:
            yield finding(number, "trace_wrong", i=i, reason=verdict.reason)


def _gold(row: Row) -> str:
    return ((row[schema.REWARD_MODEL] or {}).get("ground_truth") or "").strip()


def _from_messages(row: Row) -> Row:
    messages = row[schema.MESSAGES] or []
    return {PROMPT: messages[:-1], TARGET: messages[-1:]}
