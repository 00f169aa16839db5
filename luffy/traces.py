"""Demonstrations of a stronger model: how a data set holds them, their think tags, and how one becomes tokens.

The layout is that of the published training set (``Elliott/Openr1-Math-46k-8192``): one row a prompt, whose ``target``
column is a list of assistant messages. Each message is one whole trace; several of them are several traces of the same
prompt. Optional columns of the same length name the teacher of each trace (``target_source``) and give the teacher's
probability of each of its tokens (``target_probs``). How often the policy solves the prompt by itself may stand beside them
(``policy_success``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from luffy.errors import InputError

PROMPT = "prompt"
TARGET = "target"
TARGET_SOURCE = "target_source"
TARGET_PROBS = "target_probs"
POLICY_SUCCESS = "policy_success"

UNKNOWN_SOURCE = "unknown"
THINK_OPEN = "<think>"
THINK_CLOSE = "</think>"
THINK_MISSING = "think_tags_missing"
THINK_DOUBLED = "think_tags_doubled"


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One demonstration.

    Attributes:
        text: the assistant's message, without the end-of-sequence token.
        source: name of the teacher.
        probabilities: the teacher's probability of each token of (text + EOS), or None where unknown.
    """

    text: str
    source: str = UNKNOWN_SOURCE
    probabilities: tuple[float, ...] | None = None


def read_traces(target: Any, sources: Any = None, probabilities: Any = None, *, with_empty: bool = False) -> tuple[Trace, ...]:
    """Read the traces of one row.

    Args:
        target: None, or a sequence of ``{"role": "assistant", "content": str}`` messages.
        sources: None, or as many teacher names.
        probabilities: None, or as many sequences of floats in (0, 1] (entries may be None).
        with_empty: also give traces without text.

    Returns:
        The traces with text, in order; empty where the row has none (null, an empty list, empty texts).

    Raises:
        InputError: where a column is of another type or length.
    """
    if target is None:
        return ()
    if isinstance(target, (str, bytes, dict)) or not _is_sequence(target):
        raise InputError(f"column '{TARGET}' holds {type(target).__name__}; it must be a list of assistant messages")
    names = _aligned(sources, TARGET_SOURCE, len(target))
    probs = _aligned(probabilities, TARGET_PROBS, len(target))
    traces = (_read(message, name, prob) for message, name, prob in zip(target, names, probs, strict=True))
    return tuple(trace for trace in traces if trace.text or with_empty)


def opens_thought(rendered_prompt: str) -> bool:
    """Whether a response begins inside a thought, because the prompt ends with the opening tag."""
    return rendered_prompt.rstrip().endswith(THINK_OPEN)


def think_tag_fault(text: str, *, prompt_opens: bool = False, required: bool = True) -> str | None:
    """What is wrong with a trace's think tags: it opens and closes its thought exactly once.

    Args:
        text: the trace.
        prompt_opens: whether the rendered prompt ends with the opening tag, so that the trace need not.
        required: whether a trace without any tag is at fault.

    Returns:
        ``THINK_MISSING`` (a tag is missing, or the thought closes before it opens), ``THINK_DOUBLED``, or None.
    """
    opened, closed = text.count(THINK_OPEN), text.count(THINK_CLOSE)
    if opened > 1 or closed > 1:
        return THINK_DOUBLED
    if not opened and not closed and not required:
        return None
    if not closed or not (opened or prompt_opens):
        return THINK_MISSING
    return THINK_MISSING if opened and text.index(THINK_OPEN) > text.index(THINK_CLOSE) else None


def trace_tokens(trace: Trace, tokenizer: Any, *, prompt_ends_with: str = "") -> list[int]:
    """Tokens of (trace + EOS).

    A trace that opens a thought which the prompt has opened already loses its own tag, so that the tag is never doubled.

    Args:
        trace: the demonstration.
        tokenizer: a Hugging Face tokenizer with an EOS token.
        prompt_ends_with: the rendered prompt, or its end.
    """
    text = without_doubled_opening(trace.text, prompt_ends_with)
    return [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]


def without_doubled_opening(text: str, prompt_ends_with: str) -> str:
    """The trace's text as it follows the prompt: without its opening tag where the prompt ends with one."""
    for tag in (THINK_OPEN + "\n", THINK_OPEN):
        if prompt_ends_with.endswith(tag) and text.startswith(tag):
            return text[len(tag) :]
    return text


def _read(message: Any, name: Any, probabilities: Any) -> Trace:
    if not isinstance(message, dict) or not isinstance(message.get("content"), (str, type(None))):
        raise InputError(
            f"column '{TARGET}' holds a list of {type(message).__name__}; each entry must be a message "
            "{'role': 'assistant', 'content': text}"
        )
    if message.get("role") != "assistant":
        raise InputError(f"column '{TARGET}' holds a message of role {message.get('role')!r}; it must be 'assistant'")
    try:
        numbers = None if probabilities is None else tuple(float(p) for p in probabilities)
    except (TypeError, ValueError) as error:
        raise InputError(f"column '{TARGET_PROBS}' must hold a list of numbers for each trace ({error})") from error
    return Trace(text=message["content"] or "", source=UNKNOWN_SOURCE if name is None else str(name), probabilities=numbers)


def _aligned(values: Any, column: str, length: int) -> Sequence[Any]:
    if values is None:
        return [None] * length
    if isinstance(values, (str, bytes)) or not _is_sequence(values) or len(values) != length:
        raise InputError(f"column '{column}' must be a list with one entry for each of the row's {length} traces")
    return values


def _is_sequence(value: Any) -> bool:
    return hasattr(value, "__len__") and hasattr(value, "__getitem__")
