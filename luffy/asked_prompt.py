"""What a model is asked around a problem: in training, in validation, in evaluation, and whether that is the same.

A model that was trained with one system message and evaluated with another loses accuracy for no reason of its own.
"""

from __future__ import annotations

import os.path
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PROBLEM = "<<problem>>"
RECORD = "trained_prompt.txt"  # in the folder of a run
RECORD_LEVELS = 4  # RUN/global_step_N/actor/huggingface is where a run exports its model
SHOWN = 70  # characters of a difference


def without_problem(messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """A chat whose last user message is a mark in place of its problem."""
    chat = [dict(message) for message in messages]
    for message in reversed(chat):
        if message["role"] == "user":
            message["content"] = PROBLEM
            break
    return chat


def asked_prompt(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> str:
    """What a model sees of a chat, with a mark in place of the problem.

    Args:
        tokenizer: a Hugging Face tokenizer with a chat template.
        messages: the chat.
    """
    return tokenizer.apply_chat_template(without_problem(messages), tokenize=False, add_generation_prompt=True)


def difference(first: str, second: str) -> str | None:
    """Where two prompts begin to differ, as "'...' and '...'" (or nothing); None where they are the same."""
    if first == second:
        return None
    same = len(os.path.commonprefix([first, second]))
    tail = len(os.path.commonprefix([first[same:][::-1], second[same:][::-1]]))
    return " and ".join(repr(_short(text)) if text else "nothing" for text in (each[same : len(each) - tail] for each in (first, second)))


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def write_record(run_folder: Path, prompt: str) -> None:
    """Note in a run's folder what its model is trained with."""
    (run_folder / RECORD).write_text(prompt, encoding="utf-8")


def read_record(model_folder: Path) -> str | None:
    """What a model was trained with, where it lies in the folder of a run that noted it."""
    folder = model_folder.resolve()
    for candidate in [folder, *folder.parents][:RECORD_LEVELS]:
        if (candidate / RECORD).is_file():
            return (candidate / RECORD).read_text(encoding="utf-8")
    return None
