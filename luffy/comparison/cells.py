"""One cell of the comparison: a regime, a method and a seed, and what identifies it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from luffy.comparison.methods import METHODS, Method
from luffy.comparison.regimes import FEWEST, MAIN, REGIMES, Regime
from luffy.errors import InputError

VERSION = 2  # raise it when the same parameters come to give another result
PARTS = {"short": (MAIN.name, FEWEST.name), "main": (MAIN.name,), "regimes": tuple(REGIMES)[1:], "all": tuple(REGIMES)}
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
        return json.loads(json.dumps(found))


def plan(regimes: Sequence[str], seeds: Sequence[int], *, steps: int | None = None) -> list[Cell]:
    """The cells of regimes, seed by seed, so that a broken-off comparison has whole seeds.

    Args:
        regimes: names of :data:`~luffy.comparison.regimes.REGIMES`.
        seeds: different ones.
        steps: budget of every cell; None: the regimes' own.

    Raises:
        InputError: for seeds that repeat, or steps too few to look twice at the held-out problems.
    """
    _check(seeds, steps)
    return [
        Cell(regime=REGIMES[name], method=METHODS[method], seed=seed, steps=steps or REGIMES[name].steps)
        for name in regimes
        for seed in seeds
        for method in REGIMES[name].methods
    ]


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
