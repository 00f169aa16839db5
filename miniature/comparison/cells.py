"""One cell of the comparison, a regime with a method and a seed: what identifies it, and where its files are."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from luffy.errors import InputError
from miniature.comparison.methods import FEWEST, LUFFY, MAIN, METHODS, REGIMES, SFT_RL, Method, Regime

VERSION = 3  # raise it when the same parameters come to give another result
SETS = {"short": (MAIN.name, FEWEST.name), "main": (MAIN.name,), "regimes": tuple(REGIMES)[1:], "all": tuple(REGIMES)}
"""Which regimes; the first takes 70 to 90 minutes with three seeds on 2 cores."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A run to do.

    Attributes:
        regime: the situation.
        method: how it trains.
        seed: of training, its problems and their traces; base and held-out problems are the same for all seeds.
        steps: budget of the regime's prompts each, from the base on.
    """

    regime: Regime
    method: Method
    seed: int
    steps: int

    @property
    def name(self) -> str:
        """Its folder, relative to all cells'."""
        return f"{self.regime.name}/{self.method.name}/seed{self.seed}"

    @property
    def check_every(self) -> int:
        """Steps between two looks at the held-out problems."""
        return max(1, self.steps // self.regime.points)

    @property
    def start_step(self) -> int:
        """Steps of the budget that the start model has used: half of it where it is another method's, else 0."""
        return self.steps // 2 if self.method.starts_from else 0

    @property
    def teacher(self) -> Cell | None:
        """The cell whose last model is the teacher, as :data:`TEACHER`; None: it has none."""
        return TEACHER if self.method.teacher else None

    @property
    def start(self) -> Cell | None:
        """The cell whose model at :attr:`start_step` this one starts from; None: the base."""
        name = self.method.starts_from
        return None if name is None else replace(self, method=METHODS[name])

    def parameters(self) -> dict[str, Any]:
        """All that its result depends on, as JSON values."""
        regime = asdict(self.regime)
        del regime["title"], regime["methods"]
        method = asdict(self.method)
        del method["title"]
        found = {"version": VERSION, "regime": regime, "method": method, "seed": self.seed, "steps": self.steps}
        if self.teacher is not None:
            found["teacher"] = self.teacher.parameters()
        return json.loads(json.dumps(found))


TEACHER = Cell(regime=replace(MAIN, name="teacher", title="the teacher"), method=METHODS[LUFFY], seed=0, steps=60)
"""Makes the teacher of all regimes and seeds: LUFFY on right traces, as many steps as ``train.sh`` takes."""


def plan(regimes: Sequence[str], seeds: Sequence[int], *, steps: int | None = None, methods: Sequence[str] = ()) -> list[Cell]:
    """The cells of regimes, seed by seed, so that a broken-off comparison has whole seeds.

    Args:
        regimes: names of :data:`~miniature.comparison.methods.REGIMES`.
        seeds: different ones.
        steps: budget of every cell; None: the regimes' own.
        methods: names of :data:`~miniature.comparison.methods.METHODS`, the same for all regimes; empty: the regimes' own. SFT then
            RL, the bar of them all, is always among them, with the SFT that it starts from.

    Raises:
        InputError: for seeds that repeat, or steps too few to look twice at the held-out problems.
    """
    _check(seeds, steps)
    cells = [
        Cell(regime=REGIMES[name], method=METHODS[method], seed=seed, steps=steps or REGIMES[name].steps)
        for name in regimes
        for seed in seeds
        for method in _with_the_bar(methods or REGIMES[name].methods)
    ]
    return [TEACHER, *cells] if any(cell.teacher for cell in cells) else cells


def _with_the_bar(methods: Sequence[str]) -> list[str]:
    wanted = {SFT_RL, METHODS[SFT_RL].starts_from, *methods}
    return [name for name in METHODS if name in wanted]


def part(cells: Sequence[Cell], number: int, of: int, *, cost: Callable[[Cell], float]) -> list[Cell]:
    """One of several parts of about the same cost, in the order of the cells; together they are all of them.

    A part has the cells that its own need (a start model, a teacher) too, which are not run again where they are finished.

    Args:
        cells: of the whole comparison.
        number, of: which part, from 1, of how many.
        cost: of a cell, in any unit.
    """
    total, before, own = sum(map(cost, cells)), 0.0, []
    for cell in cells:
        place = min(of, int(of * before / total) + 1)
        before += cost(cell)
        if place == number:
            own.append(cell)
    needed = {other for cell in own for other in (cell.start, cell.teacher) if other is not None}
    return [cell for cell in cells if cell in own or cell in needed]


def plan_variants(variants: Sequence[Method], seeds: Sequence[int], *, steps: int | None = None) -> list[Cell]:
    """The cells of an ablation, in the main regime; arguments and errors are those of :func:`plan`."""
    _check(seeds, steps)
    return [Cell(regime=MAIN, method=method, seed=seed, steps=steps or MAIN.steps) for seed in seeds for method in variants]


def _check(seeds: Sequence[int], steps: int | None) -> None:
    if not seeds or len(set(seeds)) < len(seeds):
        raise InputError(f"--seeds {' '.join(map(str, seeds))}: give one or more different numbers")
    least = max(2, *(regime.points for regime in REGIMES.values()))
    if steps is not None and steps < least:
        raise InputError(f"--steps {steps}: give at least {least}, so that held-out problems are looked at on the way")


@dataclass(frozen=True)
class Folders:
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
