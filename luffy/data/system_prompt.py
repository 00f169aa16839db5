"""The system message of a prompt: kept, replaced, removed, or taken from another file."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path

from luffy.data.rows import columns_of, read_batches
from luffy.data.schema import Chat
from luffy.errors import InputError
from luffy.traces import PROMPT

DEFAULT = (
    "Solve the problem in two parts. First think it through between <think> and </think>: break it down, try ideas, "
    "check each step, and go back where a check fails. Then write the solution for a reader, and put the final answer "
    "in \\boxed{}."
)
KEEP, NONE = "keep", "none"
_PATH = re.compile(r"\S*/\S*|\S+\.(?:txt|md|parquet)")

logger = logging.getLogger(__name__)

# (chat, whether the source gave a bare question) -> chat
SystemRewriter = Callable[[Chat, bool], Chat]


def system_rewriter(choice: str) -> SystemRewriter:
    """The change that ``--system-prompt`` asks for.

    Args:
        choice: "keep" adds :data:`DEFAULT` to bare questions and leaves chats as they are; "none" removes system
            messages; the path of a parquet file takes the message of its first row, that of another file its text;
            every other text is the message itself.
    """
    if choice == KEEP:
        return lambda chat, bare: _replaced(chat, DEFAULT) if bare else chat
    text = None if choice == NONE else message_text(choice)
    return lambda chat, bare: _replaced(chat, text)


def _replaced(chat: Chat, text: str | None) -> Chat:
    turns = tuple(message for message in chat if message["role"] != "system")
    return turns if text is None or not turns else ({"role": "system", "content": text}, *turns)


def message_text(choice: str) -> str:
    """The message that a choice names: of a parquet file's first prompt, the text of another file, or the choice itself.

    Raises:
        InputError: for a file that is not there, is no text, or as parquet has no system message.
    """
    path = Path(choice)
    if len(choice) > 255 or not path.is_file():
        if _PATH.fullmatch(choice):
            raise InputError(f"--system-prompt {choice} is no file; give a file that is there, or the message itself")
        return choice
    if path.suffix != ".parquet":
        try:
            return path.read_text(encoding="utf-8").strip()
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is no text in UTF-8 (--system-prompt); give a text or parquet file") from error
    system = first_system_message(path)
    if system is None:
        raise InputError(f"the first prompt of {path} has no system message (--system-prompt)")
    return system


def first_system_message(file: Path) -> str | None:
    """The system message of a parquet file's first prompt; None where that has none.

    Raises:
        InputError: where the file cannot be read or has no prompts.
    """
    if PROMPT not in columns_of(file):
        raise InputError(f"{file} has no column '{PROMPT}' to take a system message from (--system-prompt)")
    first = next(read_batches(file, 1, [PROMPT]), None)
    messages = first.rows()[0][PROMPT] if first else None
    return next((message["content"] for message in messages or [] if message["role"] == "system"), None)


def as_in_training(file: Path) -> str:
    """The choice (of :func:`system_rewriter`) that gives evaluation prompts the system message of a training file.

    Args:
        file: the training file; where it is not there, bare questions get the project's message.
    """
    if not file.is_file():
        logger.warning(
            "%s is not there, so prompts get the project's system message; make the training set first, or give "
            "--system-prompt", file,
        )  # fmt: skip
        return KEEP
    return first_system_message(file) or NONE
