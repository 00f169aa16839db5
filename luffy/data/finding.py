"""What a check can find in a data file: each fault's name, severity, and what to do about it, in one place."""

from __future__ import annotations

from dataclasses import dataclass

ERROR = "error"
WARNING = "warning"

# code -> (severity, what was seen and what to do)
FAULTS = {
    "column_missing": (ERROR, "column '{column}' is missing ({meaning}); the file has {present}"),
    "column_type": (ERROR, "column '{column}' is {problem}; it holds {meaning}"),
    "column_renamed": (ERROR, "column '{column}' is not read under that name; call it '{now}', or drop it"),
    "column_unread": (WARNING, "column '{column}' is not read; if it is '{near}', rename it"),
    "no_rows": (ERROR, "the file has no rows; make it again"),
    "row_unreadable": (ERROR, "{reason}"),
    "prompt_missing": (ERROR, "the prompt is null or an empty list; drop the row"),
    "prompt_message_null": (ERROR, "prompt[{i}], its role or its content is null; drop the row"),
    "prompt_role": (ERROR, "prompt[{i}] has role '{role}'; roles are system, user, assistant"),
    "prompt_system_late": (
        ERROR,
        "prompt[{i}] is a system message; only the first may be, chat templates refuse others",
    ),
    "prompt_not_user_last": (ERROR, "the prompt ends with role '{role}'; it must end with the user's turn"),
    "prompt_empty": (ERROR, "the prompt has no text; drop the row"),
    "prompt_duplicate": (ERROR, "row {first} has the same prompt; merge their traces with data/prepare_train.py"),
    "prompt_too_long": (ERROR, "the prompt has {length} tokens, the limit is {limit}; drop the row"),
    "chat_template": (ERROR, "{reason}; mend the messages"),
    "gold_missing": (ERROR, "the row has no gold answer{note}, so every reward would be 0; drop it"),
    "gold_sentinel": (ERROR, "the gold answer '{gold}' stands for no answer; drop the row"),
    "gold_encoded": (ERROR, "the gold answer '{gold}' is text that encodes data; write the answer itself"),
    "gold_unreadable": (ERROR, "the verifier cannot read the gold answer '{gold}' as a whole; mend it or drop the row"),
    "reward_style": (WARNING, "reward_model.style is {style!r}; write 'rule'"),
    "data_source_missing": (ERROR, "column 'data_source' is null or empty; rewards and metrics go by it"),
    "ability_missing": (WARNING, "column 'ability' is null or empty; write 'math'"),
    "index_missing": (WARNING, "extra_info.index is null; number the rows"),
    "index_duplicate": (WARNING, "row {first} has the same extra_info.index {index}; number the rows"),
    "trace_missing": (
        WARNING,
        "the row has no trace, so that its whole group is sampled on-policy; add one or drop it",
    ),
    "trace_null": (ERROR, "target[{i}], its role or its content is null; drop the trace"),
    "trace_role": (ERROR, "target[{i}] has role '{role}'; it must be 'assistant'"),
    "trace_empty": (ERROR, "target[{i}] has no text; drop the trace"),
    "trace_duplicate": (WARNING, "target[{i}] repeats an earlier trace of the row; drop it"),
    "trace_too_long": (ERROR, "target[{i}] with EOS has {length} tokens, the budget is {limit}; drop the trace"),
    "trace_wrong": (ERROR, "target[{i}] gets no reward ({reason}); drop the trace"),
    "think_tags_missing": (ERROR, "a trace lacks a think tag, which traces of other rows have; drop it"),
    "think_tags_doubled": (ERROR, "target[{i}] has a think tag more than once; drop the trace"),
    "eos_in_trace": (ERROR, "target[{i}] ends with '{token}', which the trainer adds again; cut it off"),
    "special_token": (ERROR, "{where} contains the tokenizer's special token '{token}'; remove it or drop the row"),
    "text_encoded": (
        ERROR,
        "{where} is text that encodes a list or chat, which the model would read as it is; give the text itself "
        "(data/prepare_train.py reads it)",
    ),
    "broken_text": (
        WARNING,
        "{where} contains NUL, U+FFFD, a backspace or a form feed, as wrong decoding and unescaped LaTeX leave; read the source again",
    ),
    "target_source_count": (ERROR, "'target_source' has {count} entries for {traces} traces; give one each"),
    "target_probs_count": (ERROR, "'target_probs' has {count} entries for {traces} traces; give one each, or null"),
    "probs_range": (ERROR, "target_probs[{i}] has values outside (0, 1]; give probabilities, not logarithms"),
    "probs_length": (
        ERROR,
        "target_probs[{i}] has {count} entries for {length} tokens with EOS; use its own tokenizer",
    ),
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a data file.

    Attributes:
        row: number of the row, from 0; None where it concerns the file.
        code: a key of :data:`FAULTS`.
        message: what was seen, and what to do about it.
        severity: :data:`ERROR` (training would fail or learn something wrong) or :data:`WARNING`.
    """

    row: int | None
    code: str
    message: str
    severity: str

    def __str__(self) -> str:
        """One line: severity, place, code and message."""
        place = "file" if self.row is None else f"row {self.row}"
        return f"{self.severity}: {place}: {self.code}: {self.message}"


def finding(row: int | None, code: str, **seen: object) -> Finding:
    """The finding of a fault, its message filled with what was seen."""
    severity, message = FAULTS[code]
    return Finding(row, code, message.format(**seen), severity)
