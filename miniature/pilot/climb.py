"""Climb the ladder: train and measure each rung's methods, keep the better half."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from miniature.comparison.methods import METHODS
from miniature.pilot.advice import Outcome
from miniature.pilot.ladder import Rung, survivors
from miniature.pilot.runs import BASE, HELDOUT, HELDOUT2, MEASURED, RunFailed, Runs

Scores = dict[str, np.ndarray]  # by held-out set

logger = logging.getLogger(__name__)


@dataclass
class Climb:
    """What was found on the way.

    Attributes:
        base: scores [1, P] of the start model, by held-out set.
        rungs: by rung, from 1, and method: its scores [S, P] by held-out set.
        failed: by method, why it has no result.
        stopped: why the ladder ended early; None: it did not.
    """

    base: Scores
    rungs: dict[int, dict[str, Scores]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    stopped: str | None = None

    def outcomes(self, runs: Runs, seeds: Sequence[int]) -> list[Outcome]:
        """The methods with their last rung's scores and costs."""
        latest = {name: (number, scores) for number, rung in sorted(self.rungs.items()) for name, scores in rung.items()}
        return [
            Outcome(
                name=name,
                title=METHODS[name].title,
                rung=number,
                scores_SP=scores[HELDOUT],
                kept_SP=scores.get(HELDOUT2),
                flops=sum(runs.ledger(name, seed).flops(runs.parameters()) for seed in seeds),
            )
            for name, (number, scores) in latest.items()
        ]

    def earlier(self) -> dict[int, dict[str, np.ndarray]]:
        """Held-out scores by rung, without the last one's."""
        return {
            number: {name: each[HELDOUT] for name, each in rung.items()} for number, rung in self.rungs.items() if number < max(self.rungs)
        }


def climb(runs: Runs, methods: Sequence[str], rungs: Sequence[Rung], seeds: Sequence[int], budget: float) -> Climb:
    """Train and measure rung by rung; a rung that the budget does not pay for to its end is left out.

    Args:
        runs: trains and measures.
        methods: names, all of the first rung.
        rungs: the ladder.
        seeds: of each method's runs.
        budget: seconds that may have been spent before a run is started.

    Raises:
        RunFailed: where the start model cannot be measured.
    """
    found = Climb(base={name: scores[None] for name, scores in runs.measure(BASE, 0, 0, runs.task.model).items()})
    left = list(methods)
    for number, rung in enumerate(rungs, start=1):
        results: dict[str, Scores] = {}
        for name in left:
            if runs.spent > budget and not _is_done(runs, name, seeds, rung):
                found.stopped = f"the budget was used up in rung {number}, which is left out"
                return found
            try:
                results[name] = _run(runs, name, seeds, rung, rungs)
            except RunFailed as failure:
                logger.error("%s", failure)
                found.failed[name] = str(failure)
        if not results:
            found.stopped = f"all methods failed in rung {number}"
            return found
        found.rungs[number] = results
        means = {name: float(scores[HELDOUT].mean()) for name, scores in results.items()}
        logger.info("rung %d, step %d: %s", number, rung.step, ", ".join(f"{name} {mean:.3f}" for name, mean in means.items()))
        if number < len(rungs):
            left = survivors(means, rungs[number].methods)
    return found


def _run(runs: Runs, name: str, seeds: Sequence[int], rung: Rung, rungs: Sequence[Rung]) -> Scores:
    by_seed = []
    for seed in seeds:
        model = runs.train(name, seed, steps=rung.step, first=rungs[0].step, last=rungs[-1].step)
        by_seed.append(runs.measure(name, seed, rung.step, str(model)))
    return {each: np.stack([scores[each] for scores in by_seed]) for each in by_seed[0]}


def _is_done(runs: Runs, name: str, seeds: Sequence[int], rung: Rung) -> bool:
    return all(Path(runs.folder / "answers" / name / f"seed{seed}" / f"step{rung.step}" / MEASURED).is_file() for seed in seeds)
