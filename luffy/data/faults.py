"""What can be wrong with a data set: each fault once, for the filter that leaves rows out and for the check of a file alike.

A new fault is one entry of :data:`FAULTS`: where it is, when it can be seen, and its test; with a ``code`` ``data/check.py``
finds it, with a ``reason`` ``data/prepare_train.py`` leaves its row or trace out.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from luffy.data import schema
from luffy.data.gold import final_answer, is_sentinel
from luffy.data.text import SHOWN_CHARS, is_encoded, shown
from luffy.rewards.verdict import Reason
from luffy.traces import (
    POLICY_SUCCESS,
    TARGET_PROBS,
    TARGET_SOURCE,
    THINK_DOUBLED,
    THINK_MISSING,
    opens_thought,
    think_tag_fault,
)

if TYPE_CHECKING:
    from luffy.data.judge import Judged, Limits

ERROR = "error"
"""Training would fail or learn something wrong."""
WARNING = "warning"

MALFORMED = "malformed"
OVERLAP = "overlap_with_evaluation"
NO_TRACE_LEFT = "no_trace_left"
DUPLICATE_PROMPT = "duplicate_prompt"
CONFLICTING_ANSWER = "conflicting_answer"
BEYOND_MAX_SAMPLES = "beyond_max_samples"
DUPLICATE_TRACE = "duplicate_trace"
BEYOND_MAX_TRACES = "beyond_max_traces"

_SIGNS_OF_WRONG_DECODING = ("\x00", "\ufffd", "\x08", "\x0c")


class Stage(enum.IntEnum):
    """When a fault can be seen, in the order in which rows are measured."""

    FILE = 0  # in the schema
    ROW = 1  # in the row itself, as it is read
    PROMPT_TOKENS = 2  # once the prompt is rendered and counted
    GOLD = 3  # once the verifier has read the gold answer
    TRACE = 4  # in a trace's own text
    TRACE_TOKENS = 5  # once the trace is counted
    VERDICT = 6  # once the verifier has graded the trace
    LEFT = 7  # once all traces were looked at
    OTHER_ROWS = 8  # beside other rows: when a file is checked or rows are merged


# True where a row has the fault, or what was seen: values for its message and detail.
Seen = dict[str, Any] | None
Test = Callable[["Judged", "Limits", int], object]


@dataclass(frozen=True)
class Fault:
    """One thing that can be wrong.

    Attributes:
        scope: what it is a fault of: "file", "row", "prompt", "gold", "labels", "traces" (their columns) or "trace".
        stage: when it can be seen.
        code: its name in the findings of a check; "" where a check does not look for it.
        message: of a finding, filled with what was seen: what it is, and what to do about it.
        test: takes row, limits and the trace's position; None where reader or merge find it themselves.
        severity: :data:`ERROR` or :data:`WARNING`.
        last: whether nothing more is asked of a scope that has it, as the rest would not make sense.
        reason: its name in the report of a filter that leaves its row or trace out; "" where it leaves nothing out for it.
        meaning: what the report says about it.
        detail: of one row or trace that is left out, filled with what was seen.
    """

    scope: str
    stage: Stage
    code: str = ""
    message: str = ""
    test: Test | None = None
    severity: str = ERROR
    last: bool = False
    reason: str = ""
    meaning: str = ""
    detail: str = ""

    def seen(self, row: Judged, limits: Limits, position: int = 0) -> dict[str, Any] | None:
        """What was seen of the fault; None where the row has it not."""
        found = self.test(row, limits, position) if self.test else None
        return found if isinstance(found, dict) else {} if found else None


def _message(row: Judged, wrong: Callable[[int, Any], bool]) -> Seen:
    """The first message of the prompt that is wrong."""
    found = next((i for i, message in enumerate(row.messages) if wrong(i, message)), None)
    return None if found is None else {"i": found, "role": (row.messages[found] or {}).get("role")}


def _in_texts(scope: str, found: Callable[[str, Limits], Any]) -> Test:
    """A test of the texts of a scope; what is found in one is shown as ``token``."""

    def test(row: Judged, limits: Limits, i: int) -> Seen:
        for where, text in row.texts(scope, i):
            text = text.rstrip().removesuffix(limits.eos) if scope == "trace" else text
            if token := found(text, limits):
                return {"where": where, "token": token}
        return None

    return test


def _special_token(text: str, limits: Limits) -> str | None:
    return next((token for token in limits.special_tokens if token in text), None)


def _repeated(firsts: dict[Any, int] | None, key: Any, number: int) -> Seen:
    first = number if firsts is None else firsts.setdefault(key, number)
    return {"first": first, "index": key} if first != number else None


def _too_long(length: int, limit: int | None, i: int = 0) -> Seen:
    return {"i": i, "length": length, "limit": limit} if limit is not None and length > limit else None


def _gold_seen(row: Judged) -> dict[str, Any]:
    note = f" ({row.note})" if row.note else ""
    return {"gold": row.gold.strip()[:SHOWN_CHARS], "shown": shown(row.gold), "why": row.note, "note": note}


def _think_tags(fault: str) -> Test:
    def test(row: Judged, limits: Limits, i: int) -> Seen:
        opens = limits.prompt_opens or opens_thought(row.rendered)
        return {"i": i} if think_tag_fault(row.text(i), prompt_opens=opens, required=limits.think_tags) == fault else None

    return test


def _no_reward(row: Judged, i: int, *, wrong: bool) -> Seen:
    verdict = row.verdicts.get(i)
    if verdict is None or verdict.correct or (verdict.reason is Reason.WRONG) is not wrong:
        return None
    found = "something else" if verdict.answer is None else shown(verdict.answer)
    return {"i": i, "reason": verdict.reason, "found": found, "asked": shown(row.gold)}


def _count(row: Judged, column: str) -> Seen:
    values = row.columns.get(column)
    differs = row.traces and values is not None and len(values) != len(row.traces)
    return {"count": len(values or ()), "traces": len(row.traces)} if differs else None


def _probs_length(row: Judged, i: int) -> Seen:
    probabilities, length = row.probabilities(i), row.trace_lengths.get(i)
    if probabilities is None or length is None or len(probabilities) == length:
        return None
    return {"i": i, "count": len(probabilities), "length": length}


# In the order of reports. Scope, stage, code and message; then its test.
FAULTS: tuple[Fault, ...] = (
    Fault("file", Stage.FILE, "column_missing", "column '{column}' is missing ({meaning}); the file has {present}"),
    Fault("file", Stage.FILE, "column_type", "column '{column}' is {problem}; it holds {meaning}"),
    Fault("file", Stage.FILE, "column_renamed", "column '{column}' is not read under that name; call it '{now}', or drop it"),
    Fault("file", Stage.FILE, "column_unread", "column '{column}' is not read; if it is '{near}', rename it", severity=WARNING),
    Fault("file", Stage.FILE, "no_rows", "the file has no rows; make it again"),
    Fault("row", Stage.ROW, "row_unreadable", "{reason}", reason=MALFORMED, meaning="a value of another type than its column's"),

    Fault("prompt", Stage.ROW, "prompt_missing", "the prompt is null or an empty list; drop the row",
          lambda row, limits, i: not row.messages, last=True, reason="empty_prompt", meaning="no text in the prompt"),
    Fault("prompt", Stage.ROW, "prompt_message_null", "prompt[{i}], its role or its content is null; drop the row",
          lambda row, limits, i: _message(row, lambda i, message: not schema.is_message(message)), last=True),
    Fault("prompt", Stage.ROW, "prompt_role", "prompt[{i}] has role '{role}'; roles are system, user, assistant",
          lambda row, limits, i: _message(row, lambda i, message: message["role"] not in schema.ROLES)),
    Fault("prompt", Stage.ROW, "prompt_system_late", "prompt[{i}] is a system message; only the first may be, chat templates refuse others",
          lambda row, limits, i: _message(row, lambda i, message: i > 0 and message["role"] == "system")),
    Fault("prompt", Stage.ROW, "prompt_not_user_last", "the prompt ends with role '{role}'; it must end with the user's turn",
          lambda row, limits, i: (role := row.messages[-1]["role"]) != "user" and {"role": role}),
    Fault("prompt", Stage.ROW, "prompt_empty", "the prompt has no text; drop the row",
          lambda row, limits, i: not row.question.strip(), reason="empty_prompt", meaning="no text in the prompt"),
    Fault("gold", Stage.ROW, "gold_missing", "the row has no gold answer{note}, so every reward would be 0; drop it",
          lambda row, limits, i: not row.gold.strip() and _gold_seen(row), last=True,
          reason="no_answer", meaning="no gold answer", detail="{why}"),
    Fault("gold", Stage.ROW, "gold_encoded", "the gold answer '{gold}' is text that encodes data; write the answer itself",
          lambda row, limits, i: is_encoded(row.gold.strip()) and _gold_seen(row), last=True),
    Fault("gold", Stage.ROW, "gold_sentinel", "the gold answer '{gold}' stands for no answer; drop the row",
          lambda row, limits, i: is_sentinel(final_answer(row.gold.strip())) and _gold_seen(row), last=True),
    Fault("gold", Stage.GOLD, "gold_unreadable", "the verifier cannot read the gold answer '{gold}' as a whole; mend it or drop the row",
          lambda row, limits, i: not row.readable and _gold_seen(row), last=True, reason="unreadable_answer", detail="{shown}",
          meaning="the verifier cannot read the gold answer, so nothing could equal it; --keep-unreadable keeps it"),
    Fault("prompt", Stage.ROW, test=lambda row, limits, i: row.key in limits.excluded,
          reason="excluded", meaning="the prompt is in the set to be complemented"),
    Fault("prompt", Stage.PROMPT_TOKENS, "chat_template", "{reason}; mend the messages",
          lambda row, limits, i: row.refusal and {"reason": row.refusal}, last=True),
    Fault("prompt", Stage.PROMPT_TOKENS, "prompt_too_long", "the prompt has {length} tokens, the limit is {limit}; drop the row",
          lambda row, limits, i: _too_long(row.prompt_length, limits.prompt),
          reason="prompt_too_long", meaning="the rendered prompt is above --max-prompt-length", detail="{length} tokens"),
    Fault("prompt", Stage.OTHER_ROWS, reason=OVERLAP, meaning="the prompt is in an evaluation set"),
    Fault("traces", Stage.LEFT, test=lambda row, limits, i: not row.kept and {"count": len(row.traces)},
          reason=NO_TRACE_LEFT, meaning="every trace of the row was dropped", detail="of {count}"),
    Fault("prompt", Stage.OTHER_ROWS, "prompt_duplicate", "row {first} has the same prompt; merge their traces with data/prepare_train.py",
          lambda row, limits, i: row.question.strip() and _repeated(limits.prompts, row.key, row.number),
          reason=DUPLICATE_PROMPT, meaning="an earlier row has the prompt and all of the traces"),
    Fault("gold", Stage.OTHER_ROWS, reason=CONFLICTING_ANSWER, meaning="an earlier row gives the prompt another gold answer"),
    Fault("row", Stage.OTHER_ROWS, reason=BEYOND_MAX_SAMPLES, meaning="beyond --max-samples"),

    Fault("labels", Stage.ROW, "reward_style", "reward_model.style is {style!r}; write 'rule'",
          lambda row, limits, i: row.style != "rule" and {"style": row.style}, WARNING),
    Fault("labels", Stage.ROW, "policy_success_range", "policy_success is {share}; give a share from 0 to 1, or null",
          lambda row, limits, i: (share := row.columns.get(POLICY_SUCCESS)) is not None and not 0 <= share <= 1 and {"share": share}),
    Fault("labels", Stage.ROW, "data_source_missing", "column 'data_source' is null or empty; rewards and metrics go by it",
          lambda row, limits, i: not row.data_source.strip()),
    Fault("labels", Stage.ROW, "ability_missing", "column 'ability' is null or empty; write 'math'",
          lambda row, limits, i: not (row.columns[schema.ABILITY] or "").strip(), WARNING),
    Fault("labels", Stage.ROW, "index_missing", "extra_info.index is null; number the rows",
          lambda row, limits, i: row.index is None, WARNING),
    Fault("labels", Stage.OTHER_ROWS, "index_duplicate", "row {first} has the same extra_info.index {index}; number the rows",
          lambda row, limits, i: row.index is not None and _repeated(limits.indices, row.index, row.number), WARNING),

    Fault("traces", Stage.ROW, "trace_missing",
          "the row has no trace, so that its whole group is sampled on-policy; add one or drop it",
          lambda row, limits, i: not row.traces, WARNING),
    Fault("trace", Stage.TRACE, "probs_range", "target_probs[{i}] has values outside (0, 1]; give probabilities, not logarithms",
          lambda row, limits, i: any(p is None or not (math.isfinite(p) and 0 < p <= 1) for p in row.probabilities(i) or ()) and {"i": i}),
    Fault("trace", Stage.TRACE, "trace_null", "target[{i}], its role or its content is null; drop the trace",
          lambda row, limits, i: not schema.is_message(row.traces[i]) and {"i": i}, last=True),
    Fault("trace", Stage.TRACE, "trace_role", "target[{i}] has role '{role}'; it must be 'assistant'",
          lambda row, limits, i: (role := row.traces[i]["role"]) != "assistant" and {"i": i, "role": role}),
    Fault("trace", Stage.TRACE, "trace_empty", "target[{i}] has no text; drop the trace",
          lambda row, limits, i: not row.text(i).strip() and {"i": i}, last=True,
          reason="empty_trace", meaning="no text in the trace"),
    Fault("trace", Stage.TRACE, THINK_MISSING, "a trace lacks a think tag, which traces of other rows have; drop it",
          _think_tags(THINK_MISSING),
          reason=THINK_MISSING, meaning="a think tag is missing, or they are in the wrong order; --no-think-tags accepts it"),
    Fault("trace", Stage.TRACE, THINK_DOUBLED, "target[{i}] has a think tag more than once; drop the trace",
          _think_tags(THINK_DOUBLED),
          reason=THINK_DOUBLED, meaning="a think tag appears more than once"),
    Fault("trace", Stage.TRACE, "eos_in_trace", "target[{i}] ends with '{token}', which the trainer adds again; cut it off",
          lambda row, limits, i: limits.eos and row.text(i).rstrip().endswith(limits.eos) and {"i": i, "token": limits.eos}),
    Fault("trace", Stage.TRACE_TOKENS, "trace_too_long", "target[{i}] with EOS has {length} tokens, the budget is {limit}; drop the trace",
          lambda row, limits, i: _too_long(row.trace_lengths.get(i, 0), limits.response, i),
          reason="trace_too_long", meaning="trace and EOS are above --max-response-length", detail="{length} tokens"),
    Fault("trace", Stage.VERDICT, "trace_wrong", "target[{i}] gets no reward ({reason}); drop the trace",
          lambda row, limits, i: _no_reward(row, i, wrong=True), reason="wrong_answer", detail="found {found}; asked for {asked}",
          meaning="the verifier calls the final answer wrong; --no-verify does not ask it"),
    Fault("trace", Stage.VERDICT, "trace_wrong", "target[{i}] gets no reward ({reason}); drop the trace",
          lambda row, limits, i: _no_reward(row, i, wrong=False), reason="unverifiable", detail="{reason}; asked for {asked}",
          meaning="the verifier finds no answer, or cannot compare it; --no-verify does not ask it"),
    Fault("trace", Stage.OTHER_ROWS, "trace_duplicate", "target[{i}] repeats an earlier trace of the row; drop it",
          lambda row, limits, i: row.text(i).strip() in {row.text(j).strip() for j in row.kept if j < i} and {"i": i}, WARNING,
          reason=DUPLICATE_TRACE, meaning="an equal trace of the prompt is kept"),
    Fault("trace", Stage.OTHER_ROWS, reason=BEYOND_MAX_TRACES, meaning="beyond --max-traces"),
    Fault("traces", Stage.ROW, "target_source_count", "'target_source' has {count} entries for {traces} traces; give one each",
          lambda row, limits, i: _count(row, TARGET_SOURCE)),
    Fault("traces", Stage.ROW, "target_probs_count", "'target_probs' has {count} entries for {traces} traces; give one each, or null",
          lambda row, limits, i: _count(row, TARGET_PROBS)),
    Fault("trace", Stage.TRACE_TOKENS, "probs_length",
          "target_probs[{i}] has {count} entries for {length} tokens with EOS; use its own tokenizer",
          lambda row, limits, i: _probs_length(row, i)),
    *(
        fault
        for scope, stage in (("prompt", Stage.ROW), ("trace", Stage.TRACE))
        for fault in (
            Fault(scope, stage, "special_token", "{where} contains the tokenizer's special token '{token}'; remove it or drop the row",
                  _in_texts(scope, _special_token)),
            Fault(scope, stage, "text_encoded", "{where} is text that encodes a list or chat, which the model would read as it is; "
                  "give the text itself (data/prepare_train.py reads it)", _in_texts(scope, lambda text, limits: is_encoded(text))),
            Fault(scope, stage, "broken_text", "{where} contains NUL, U+FFFD, a backspace or a form feed, as wrong decoding and "
                  "unescaped LaTeX leave; read the source again",
                  _in_texts(scope, lambda text, limits: any(sign in text for sign in _SIGNS_OF_WRONG_DECODING)), WARNING),
        )
    ),
)  # fmt: skip

SCOPES = frozenset(fault.scope for fault in FAULTS)
CODES = {fault.code: fault for fault in FAULTS if fault.code}
MEANINGS = {fault.reason: fault.meaning for fault in FAULTS if fault.reason}
"""Of each reason for which a row or trace is left out, in the order of reports."""
