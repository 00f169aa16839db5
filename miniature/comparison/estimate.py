"""What a comparison will take, before any of it starts: minutes on 2 cores, and disk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from miniature.comparison.cells import Cell, Folders

LONG_SECONDS, PART_SECONDS = 5400, 4800  # more than 90 minutes are cut in parts of 80
BASE_SECONDS = 90  # a start model; seen on 2 cores, as the rest is
RL_SECONDS, RL_PROMPT_SECONDS = 50, 0.22  # start of the engine, and a prompt's group of 8 rows
SFT_SECONDS, SFT_PROMPT_SECONDS = 40, 0.08
MEGABYTES = 5  # of a cell: a checkpoint with its optimizer, the exported model, curves, logs (3 MB seen) and answers
CHECKPOINT_MEGABYTES = 3  # of each checkpoint beyond the first, which SFT keeps


@dataclass(frozen=True)
class Estimate:
    """What is to do, and what it takes.

    Attributes:
        cells: of the comparison.
        finished: of them, which are not run again.
        seconds: for the others.
        megabytes: that they add.
    """

    cells: int
    finished: int
    seconds: float
    megabytes: float

    def lines(self) -> list[str]:
        """For a person, before the start."""
        todo = self.cells - self.finished
        amount = (
            f"about {max(1, round(self.seconds / 60))} minutes on 2 cores, {self.megabytes:.0f} MB of disk" if todo else "nothing to do"
        )
        told = [f"{self.cells} cells, {self.finished} of them finished already; the other {todo}: {amount}"]
        if self.seconds > LONG_SECONDS:
            parts = math.ceil(self.seconds / PART_SECONDS)
            told.append(f"in parts of under 90 minutes: --part 1/{parts} to --part {parts}/{parts}")
        return told


def estimate(cells: Sequence[Cell], layout: Folders) -> Estimate:
    """What the cells that are not finished will take."""
    todo = [cell for cell in cells if not layout.is_finished(cell)]
    bases = {layout.base(cell.regime) for cell in todo if not layout.base(cell.regime).is_dir()}
    return Estimate(
        cells=len(cells),
        finished=len(cells) - len(todo),
        seconds=BASE_SECONDS * len(bases) + sum(map(seconds, todo)),
        megabytes=sum(megabytes(cell) for cell in todo),
    )


def seconds(cell: Cell) -> float:
    """What training and measuring a cell take."""
    prompts = (cell.steps - cell.start_step) * cell.regime.prompts
    if cell.method.experiment is None:
        return SFT_SECONDS + SFT_PROMPT_SECONDS * prompts
    return RL_SECONDS + RL_PROMPT_SECONDS * prompts


def megabytes(cell: Cell) -> float:
    """What a cell leaves on the disk."""
    kept = 1 if cell.method.experiment is not None else cell.steps // min(cell.check_every, cell.steps // 2)
    return MEGABYTES + CHECKPOINT_MEGABYTES * (kept - 1)


def table(cells: Sequence[Cell], layout: Folders) -> list[str]:
    """One line a cell, for a dry run: what it is, its steps, and whether it is finished or how many minutes it takes."""
    width, titles = max(len(cell.name) for cell in cells), max(len(cell.method.title) for cell in cells)
    return [
        f"{cell.name:<{width}}  {cell.method.title:<{titles}}  {cell.steps - cell.start_step:>4} steps  "
        + ("finished" if layout.is_finished(cell) else f"{seconds(cell) / 60:.1f} minutes")
        for cell in cells
    ]
