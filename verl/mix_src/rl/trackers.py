"""Recorded groups in the trackers of ``trainer.logger``, each by its own table: wandb, trackio, and TensorBoard, which has texts alone.

Texts of models are texts there as well: what a tracker would read as Markdown is escaped, or stands in a block of code.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np

from luffy.record import Response, as_text

COLUMNS = (
    "group", "chosen by", "source", "reward", "advantage", "reason", "answer", "tokens", "share of the gradient", "Σ|gradient weight|",
    "mean probability", "prompt", "response",
)  # fmt: skip
SHOWN_CHARS = 4000  # of a prompt or response: its beginning and its end
MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+\-.!|~&$:/@])")


def table_of(responses: Sequence[Response]) -> list[list[Any]]:
    """A row of :data:`COLUMNS` for each response; what it has not is None."""
    return [
        [
            each.group, each.chosen, each.source, each.reward, each.advantage, each.reason, _shown(each.answer), len(each.tokens),
            each.gradient_share, _sum(each.values.get("gradient_weight")), _mean(each.values.get("old_probability")), _shown(each.prompt),
            _shown("".join(each.tokens)),
        ]
        for each in responses
    ]  # fmt: skip


def log_groups(tracking: Any, name: str, responses: Sequence[Response], step: int) -> None:
    """Hand a table of responses to those trackers of a run that have one.

    Args:
        tracking: veRL's ``Tracking``; its ``logger`` holds the trackers by name.
        name: of the table.
        responses: its rows.
        step: of the training.
    """
    trackers = tracking.logger
    if not responses or not {"wandb", "trackio", "tensorboard"} & trackers.keys():
        return
    table = table_of(responses)
    if "wandb" in trackers:
        wandb = trackers["wandb"]
        wandb.log({f"record/{name}": wandb.Table(columns=list(COLUMNS), data=table)}, step=step)
    if "trackio" in trackers:
        trackio = trackers["trackio"].trackio
        cells = [[escaped(cell) if isinstance(cell, str) else cell for cell in row] for row in table]
        trackio.log({f"record/{name}": trackio.Table(columns=list(COLUMNS), data=cells)}, step=step)
    if "tensorboard" in trackers:
        trackers["tensorboard"].writer.add_text(f"record/{name}", in_code(table), step)


def escaped(text: str) -> str:
    """A text whose signs mean nothing in Markdown."""
    return MARKDOWN.sub(r"\\\1", text)


def in_code(table: Sequence[Sequence[Any]]) -> str:
    """A table as one block of code in Markdown: a heading a group, then a response after the other."""
    lines = []
    for group, rows in groupby(table, key=lambda row: row[0]):
        members = list(rows)
        lines += [f"group {group}", *members[0][COLUMNS.index("prompt")].splitlines()]
        for row in members:
            facts = zip(COLUMNS[1:-2], row[1:-2], strict=True)
            lines += ["", ", ".join(f"{name} {_plain(value)}" for name, value in facts if value is not None), *row[-1].splitlines()]
        lines += ["", ""]
    return "".join(f"    {line}\n" for line in lines)


def _plain(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split())


def _shown(text: str) -> str:
    text = as_text(text)
    return text if len(text) <= SHOWN_CHARS else f"{text[: SHOWN_CHARS // 2]} […] {text[-SHOWN_CHARS // 2 :]}"


def _sum(values: np.ndarray | None) -> float | None:
    return None if values is None else float(np.abs(values).sum(dtype=np.float64))


def _mean(values: np.ndarray | None) -> float | None:
    return None if values is None or not len(values) else float(values.mean(dtype=np.float64))
