"""Which checkpoints of a run stay on disk: the newest ones, and the best by validation.

veRL keeps the newest ones of a process's own lifetime; those of an earlier part of the run are counted here as well. The best
one is kept as ``best/global_step_N``, by hard links: it takes no space of its own until veRL removes the original.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

BEST = "best"
SCORE = "score.json"


def score_of(validation: Mapping[str, float]) -> float | None:
    """Mean accuracy over the held-out sets of a validation's metrics; None where it has none."""
    means = [value for name, value in validation.items() if name.startswith("val-core/") and "/mean@" in name]
    return sum(means) / len(means) if means else None


def keep_newest(folder: Path, number: int) -> None:
    """Remove all but the ``number`` newest ``global_step_N`` of a run's folder."""
    for old in sorted(folder.glob("global_step_*"), key=_step)[:-number]:
        shutil.rmtree(old)


def keep_best(folder: Path, step: int, score: float) -> bool:
    """Keep the checkpoint of ``step`` as the run's best one.

    Args:
        folder: the run's folder.
        step: a step that was validated; nothing happens where it has no checkpoint.
        score: its held-out accuracy.

    Returns:
        Whether it is the best so far: it has a checkpoint and a higher score than the one that was kept.
    """
    checkpoint, best = folder / f"global_step_{step}", folder / BEST
    known = json.loads((best / SCORE).read_text())["score"] if (best / SCORE).exists() else None
    if not checkpoint.is_dir() or (known is not None and score <= known):
        return False
    new = folder / f"{BEST}.new"
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(checkpoint, new / checkpoint.name, copy_function=_link)
    (new / SCORE).write_text(json.dumps({"step": step, "score": score}) + "\n")
    shutil.rmtree(best, ignore_errors=True)
    new.rename(best)
    return True


def best_checkpoint(folder: Path) -> Path | None:
    """The checkpoint that :func:`keep_best` kept, or None."""
    return next((folder / BEST).glob("global_step_*"), None)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("_")[2])


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)
