"""The columns of the project's parquet files, written down once: what is written, and what is accepted.

Writers use :func:`arrow_schema`. Readers are more lenient (:func:`type_problem`): any width of integer or float, large
or dictionary strings, further columns and further struct fields are accepted.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import pyarrow as pa

from luffy.traces import PROMPT, TARGET, TARGET_PROBS, TARGET_SOURCE

DATA_SOURCE = "data_source"
ABILITY = "ability"
REWARD_MODEL = "reward_model"
EXTRA_INFO = "extra_info"
MESSAGES = "messages"

_NEAR = 0.85  # similarity of names, of 1

ROLES = ("system", "user", "assistant")

MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
CHAT = pa.list_(MESSAGE)


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: its name, type, whether a file must have it, and what it means."""

    name: str
    type: pa.DataType
    required: bool = True
    meaning: str


_DATA_SOURCE = Column(
    name=DATA_SOURCE,
    type=pa.string(),
    meaning="name of the data set, by which rewards are chosen and metrics are grouped",
)
_PROMPT = Column(
    name=PROMPT,
    type=CHAT,
    meaning="the chat before the response: an optional system message, then user and assistant turns, a user turn last",
)
_ABILITY = Column(name=ABILITY, type=pa.string(), meaning="the kind of task, 'math' for the paper's data")
_REWARD_MODEL = Column(
    name=REWARD_MODEL,
    type=pa.struct([("style", pa.string()), ("ground_truth", pa.string())]),
    meaning="'rule' and the gold answer, which the verifier must be able to parse",
)
_EXTRA_INFO = Column(
    name=EXTRA_INFO,
    type=pa.struct([("index", pa.int64()), ("split", pa.string())]),
    meaning="the row's number in its file, unique, and the split's name",
)

# Names that columns had in the released code.
FORMER_NAMES = {"target_ds_qwen_7b_probs": TARGET_PROBS}

LAYOUTS: dict[str, tuple[Column, ...]] = {
    "train": (
        _DATA_SOURCE,
        _PROMPT,
        Column(
            name=TARGET,
            type=CHAT,
            meaning="one assistant message per trace, without EOS; null or empty where there is none",
        ),
        Column(name=TARGET_SOURCE, type=pa.list_(pa.string()), required=False, meaning="the teacher of each trace"),
        Column(
            name=TARGET_PROBS,
            type=pa.list_(pa.list_(pa.float32())),
            required=False,
            meaning="the teacher's probability, in (0, 1], of each token of (trace + EOS); null where unknown",
        ),
        _ABILITY,
        _REWARD_MODEL,
        _EXTRA_INFO,
    ),
    "eval": (_DATA_SOURCE, _PROMPT, _ABILITY, _REWARD_MODEL, _EXTRA_INFO),
    "sft": (
        Column(
            name=MESSAGES,
            type=CHAT,
            meaning="the prompt's chat and one trace as the last assistant message (veRL's messages_key)",
        ),
        Column(name=DATA_SOURCE, type=pa.string(), required=False, meaning="as in the training file"),
        Column(name="source", type=pa.string(), required=False, meaning="the trace's teacher"),
        Column(name=EXTRA_INFO, type=_EXTRA_INFO.type, required=False, meaning="the training file's row number and split"),
    ),
}


def arrow_schema(layout: str) -> pa.Schema:
    """The schema that the project writes for 'train', 'eval' or 'sft'."""
    return pa.schema([(column.name, column.type) for column in LAYOUTS[layout]])


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
