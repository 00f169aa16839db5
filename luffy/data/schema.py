"""The columns of the project's parquet files, written down once: what is written, and what is accepted; and what one row says.

Writers use :func:`arrow_schema`. Readers are more lenient (:func:`type_problem`): any width of integer or float, large
or dictionary strings, further columns and further struct fields are accepted.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from luffy.traces import POLICY_SUCCESS, PROMPT, TARGET, TARGET_PROBS, TARGET_SOURCE, Trace

DATA_SOURCE = "data_source"
ABILITY = "ability"
REWARD_MODEL = "reward_model"
EXTRA_INFO = "extra_info"
MESSAGES = "messages"

_NEAR = 0.85  # similarity of names, of 1

ROLES = ("system", "user", "assistant")

MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
CHAT = pa.list_(MESSAGE)

Chat = tuple[dict[str, str], ...]


def question(messages: Iterable[Mapping[str, str]]) -> str:
    """The text of all messages but the system's: what makes two prompts the same problem."""
    return "\n".join(message["content"] for message in messages if message["role"] != "system")


def is_message(value: Any) -> bool:
    """Whether a value is a message whose role and content are text."""
    texts = (value.get("role"), value.get("content")) if isinstance(value, dict) else (None,)
    return all(isinstance(text, str) for text in texts)


@dataclass(frozen=True, kw_only=True)
class Example:
    """A prompt, its gold answer, and the traces that a source gives for it.

    Attributes:
        prompt: messages of role and content.
        gold: the gold answer as text; empty where the source has none.
        no_gold: what the source has instead of a gold answer.
        traces: in the source's order; texts may be empty.
        data_source: name of the data set.
        ability: kind of task.
        policy_success: share in [0, 1] of the policy's own samples of the prompt that are right; None where it was not asked.
    """

    prompt: Chat
    gold: str
    traces: tuple[Trace, ...]
    data_source: str
    ability: str
    no_gold: str = ""
    policy_success: float | None = None

    @property
    def question(self) -> str:
        """The prompt's text (:func:`question`)."""
        return question(self.prompt)


@dataclass(frozen=True)
class Column:
    """One column: its name, type, what it means, whether a file must have it, and whether it is written where it says nothing."""

    name: str
    type: pa.DataType
    meaning: str
    required: bool = True
    always: bool = True


_EXTRA = pa.struct([("index", pa.int64()), ("split", pa.string())])
_REWARD = pa.struct([("style", pa.string()), ("ground_truth", pa.string())])
_PROBS = pa.list_(pa.list_(pa.float32()))
_TRAIN = (
    Column(DATA_SOURCE, pa.string(), "name of the data set, by which rewards are chosen and metrics are grouped"),
    Column(PROMPT, CHAT, "the chat before the response: an optional system message, then user and assistant turns, a user turn last"),
    Column(TARGET, CHAT, "one assistant message per trace, without EOS; null or empty where there is none"),
    Column(TARGET_SOURCE, pa.list_(pa.string()), "the teacher of each trace", required=False),
    Column(
        TARGET_PROBS, _PROBS, "the teacher's probability, in (0, 1], of each token of (trace + EOS); null where unknown", required=False
    ),
    Column(
        POLICY_SUCCESS,
        pa.float64(),
        "share, in [0, 1], of the policy's own samples that are right; null where not asked, no column where none was",
        required=False,
        always=False,
    ),
    Column(ABILITY, pa.string(), "the kind of task, 'math' for the paper's data"),
    Column(REWARD_MODEL, _REWARD, "'rule' and the gold answer, which the verifier must be able to parse"),
    Column(EXTRA_INFO, _EXTRA, "the row's number in its file, unique, and the split's name"),
)
KINDS: dict[str, tuple[Column, ...]] = {
    "train": _TRAIN,
    "eval": tuple(column for column in _TRAIN if column.name not in (TARGET, TARGET_SOURCE, TARGET_PROBS, POLICY_SUCCESS)),
    "sft": (
        Column(MESSAGES, CHAT, "the prompt's chat and one trace as the last assistant message (veRL's messages_key)"),
        Column(DATA_SOURCE, pa.string(), "as in the training file", required=False),
        Column("source", pa.string(), "the trace's teacher", required=False),
        Column(EXTRA_INFO, _EXTRA, "the training file's row number and split", required=False),
    ),
}
FORMER_NAMES = {"target_ds_qwen_7b_probs": TARGET_PROBS}
"""Names that columns had in the released code."""


def training_row(example: Example, number: int) -> dict[str, Any]:
    """An example in the columns of a training file; ``reward_model`` also says what stands where a gold answer is missing."""
    return {
        DATA_SOURCE: example.data_source,
        PROMPT: example.prompt,
        TARGET: [{"role": "assistant", "content": trace.text} for trace in example.traces],
        TARGET_SOURCE: [trace.source for trace in example.traces],
        TARGET_PROBS: [trace.probabilities for trace in example.traces],
        POLICY_SUCCESS: example.policy_success,
        ABILITY: example.ability,
        REWARD_MODEL: {"style": "rule", "ground_truth": example.gold, "note": example.no_gold},
        EXTRA_INFO: {"index": number},
    }


def arrow_schema(kind: str, *, known: Collection[str] = ()) -> pa.Schema:
    """The schema that the project writes for 'train', 'eval' or 'sft'; ``known``: the columns to add that are not always written."""
    return pa.schema([(column.name, column.type) for column in KINDS[kind] if column.always or column.name in known])


def type_problem(actual: pa.DataType, expected: pa.DataType) -> str | None:
    """Say why a column's type is not the expected one.

    Returns:
        None where values of ``actual`` serve as ``expected``; else a phrase such as ``"int64 instead of string"``.
    """
    types = pa.types
    if types.is_null(actual):
        return None
    if types.is_dictionary(actual):
        return type_problem(actual.value_type, expected)
    if types.is_struct(expected):
        return _struct_problem(actual, expected)
    if types.is_list(expected):
        lists = types.is_list(actual) or types.is_large_list(actual) or types.is_fixed_size_list(actual)
        problem = type_problem(actual.value_type, expected.value_type) if lists else None
        return f"{actual} instead of {expected}" if not lists else problem and f"a list of {problem}"
    same_kind = (
        (types.is_string(expected) and (types.is_string(actual) or types.is_large_string(actual)))
        or (types.is_integer(expected) and types.is_integer(actual))
        or (types.is_floating(expected) and types.is_floating(actual))
    )
    return None if same_kind else f"{actual} instead of {expected}"


def _struct_problem(actual: pa.DataType, expected: pa.DataType) -> str | None:
    if not pa.types.is_struct(actual):
        return f"{actual} instead of {expected}"
    for field in expected:
        position = actual.get_field_index(field.name)
        if position < 0:
            return f"a struct without field '{field.name}'"
        problem = type_problem(actual.field(position).type, field.type)
        if problem:
            return f"a struct whose field '{field.name}' is {problem}"
    return None


def near_names(columns: Iterable[str], known: Collection[str]) -> dict[str, str]:
    """Columns that are not known, each with the known name that it is nearly spelt like."""
    near = {column: difflib.get_close_matches(column, known, 1, _NEAR) for column in columns if column not in known}
    return {column: names[0] for column, names in near.items() if names}
