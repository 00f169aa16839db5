"""Where the comparison's files are, and what they say about a cell's state."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luffy.comparison.cells import Cell
from luffy.comparison.regimes import Regime
from luffy.errors import InputError


@dataclass(frozen=True)
class Layout:
    """Where the comparison's files are.

    Attributes:
        folder: of all of them.
    """

    folder: Path

    def cell(self, cell: Cell) -> Path:
        """Run folder of a cell."""
        return self.folder / "cells" / cell.name

    def parameters(self, cell: Cell) -> Path:
        """What the run folder was made with."""
        return self.cell(cell) / "cell.json"

    def summary(self, cell: Cell) -> Path:
        """What training ended with."""
        return self.cell(cell) / "summary.json"

    def console(self, cell: Cell) -> Path:
        """What training and measuring have said."""
        return self.cell(cell) / "console.log"

    def metrics(self, cell: Cell) -> Path:
        """Training's curves."""
        return self.cell(cell) / "metrics.jsonl"

    def measurement(self, cell: Cell) -> Path:
        """What the trained model was found to do."""
        return self.cell(cell) / "measurement.json"

    def base(self, regime: Regime) -> Path:
        """Folder of the start model, shared by regimes with the same one."""
        noise = regime.base.noise
        return self.folder / "bases" / f"right{noise.right:g}_zero{noise.zero:g}"

    def data(self, cell: Cell) -> Path:
        """Folder of the problems and traces, shared by the methods of a regime and seed."""
        return self.folder / "data" / cell.regime.name / f"seed{cell.seed}"

    def model(self, cell: Cell, step: int) -> Path:
        """Hugging Face model of a cell after some of its own steps."""
        inside = "huggingface" if cell.method.experiment is None else "actor/huggingface"
        return self.cell(cell) / f"global_step_{step}" / inside

    def is_trained(self, cell: Cell) -> bool:
        """Whether training with these very parameters has ended."""
        return self.summary(cell).is_file() and read_json(self.parameters(cell)) == cell.parameters()

    def is_finished(self, cell: Cell) -> bool:
        """Whether the cell is trained and its model measured."""
        return self.is_trained(cell) and self.measurement(cell).is_file()


def read_json(path: Path) -> Any:
    """Content of a JSON file; None where there is none.

    Raises:
        InputError: where the file is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); delete it, and the cell is run again") from error
