"""Demonstrations of a stronger model: how a data set holds them, and how one becomes tokens.

The layout is that of the published training set (``Elliott/Openr1-Math-46k-8192``): one row a prompt, whose ``target``
column is a list of assistant messages. Each message is one whole trace; several of them are several traces of the same
prompt. Optional columns of the same length name the teacher of each trace (``target_source``) and give the teacher's
probability of each of its tokens (``target_probs``).
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

UNKNOWN_SOURCE = "unknown"
THINK_OPEN = "<think>"
THINK_CLOSE = "</think>"


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


def read_traces(target: Any, sources: Any = None, probabilities: Any = None) -> tuple[Trace, ...]:
    """Read the traces of one row.

    Args:
        target: None, or a sequence of ``{"role": "assistant", "content": str}`` messages.
        sources: None, or as many teacher names.
        probabilities: None, or as many sequences of floats in (0, 1] (entries may be None).

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
    return tuple(trace for trace in traces if trace.text)


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
