"""What the numbers say about the paper's claims, by rules that were fixed before the numbers were there."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from miniature.comparison.methods import LUFFY, MAIN, METHODS, MIXED, ON_POLICY, REGIMES, RL_SFT_LOSS, SFT, SFT_RL
from miniature.comparison.results import REWARD, CellResult

ACCURACY_MARGIN = 0.02  # about a standard error of avg@8 on 256 problems; twice that on the 64 of the curve
ENTROPY_MARGIN = 0.005  # nats a token
STALLED, STARTED = 0.02, 0.2  # avg@8: at most this is a stall, at least that is not


class Outcome(StrEnum):
    """How a claim came out."""

    REPRODUCED = "as in the paper"
    OPPOSITE = "the opposite of the paper"
    NO_DIFFERENCE = "no difference"
    NOT_REPRODUCED = "not as in the paper"
    OPEN = "open, the seeds disagree"
    NOT_RUN = "not run"


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A number of a cell that claims are about; ``margin`` is the smallest difference that counts."""

    title: str
    value: Callable[[CellResult], float]
    margin: float = ACCURACY_MARGIN


LAST = Quantity(title="held-out avg@8", value=lambda result: result.measured.avg8)
BEST = Quantity(title="held-out avg@8 at its best point", value=lambda result: result.best, margin=2 * ACCURACY_MARGIN)
PASS = Quantity(title="held-out pass@8", value=lambda result: result.measured.pass8)
HARDER = Quantity(title="avg@8 on problems longer than any trace", value=lambda result: result.measured.harder_avg8)
ENTROPY = Quantity(title="entropy at the end", value=lambda result: result.measured.entropy, margin=ENTROPY_MARGIN)
SPEED = Quantity(title="rollouts' reward averaged over training", value=lambda result: statistics.fmean(result.curves[REWARD].values))


@dataclass(frozen=True, kw_only=True)
class Claim:
    """That one method has more of something than another, in one regime; ``text`` says it in words."""

    text: str
    more: str
    less: str
    quantity: Quantity
    regime: str = MAIN.name


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A claim and what became of it.

    Attributes:
        text: the claim.
        outcome: how it came out.
        quantity: what was compared.
        values: for each of the two sides its title and the values by seed; empty where nothing was run.
    """

    text: str
    outcome: Outcome
    quantity: Quantity
    values: dict[str, tuple[float, ...]]

    def sentence(self) -> str:
        """The claim, its outcome and its numbers, in words."""
        sides = "; ".join(f"{title} {_values(values)}" for title, values in self.values.items())
        numbers = f": {self.quantity.title} by seed: {sides}" if sides else ""
        return f"{self.text} **{self.outcome.capitalize()}**{numbers}{self.caution()}."

    def row(self) -> list[str]:
        """The claim as a row of :data:`HEADINGS`."""
        means = [f"{statistics.fmean(values):.3f}" for values in self.values.values()] or ["–", "–"]
        differences = [one - other for one, other in zip(*self.values.values(), strict=True)] if self.values else []
        signed = ", ".join(f"{difference:+.3f}" for difference in differences) or "–"
        return [self.text, self.quantity.title, *means, signed, self.outcome + self.caution()]

    def caution(self) -> str:
        """What to bear in mind where there is one seed alone."""
        one_seed = any(len(values) == 1 for values in self.values.values())
        return " (one seed: chance is not ruled out)" if one_seed else ""


HEADINGS = ["claim", "quantity", "first", "second", "difference by seed", "verdict"]
PAPER_CLAIMS = (
    Claim(text="LUFFY solves more than on-policy RL.", more=LUFFY, less=ON_POLICY, quantity=LAST),
    Claim(text="Without shaping, entropy falls further.", more=LUFFY, less=MIXED, quantity=ENTROPY),
    Claim(text="Without shaping, learning is slower.", more=LUFFY, less=MIXED, quantity=SPEED),
    Claim(text="Shaping helps: LUFFY solves more at the end.", more=LUFFY, less=MIXED, quantity=LAST),
    Claim(text="LUFFY solves more than SFT.", more=LUFFY, less=SFT, quantity=LAST),
    Claim(text="LUFFY solves more than SFT with 8 tries.", more=LUFFY, less=SFT, quantity=PASS),
    Claim(text="LUFFY solves more than RL with SFT loss.", more=LUFFY, less=RL_SFT_LOSS, quantity=LAST),
    Claim(text="LUFFY solves more than SFT then RL.", more=LUFFY, less=SFT_RL, quantity=LAST),
    Claim(text="LUFFY solves more than SFT of problems longer than any trace.", more=LUFFY, less=SFT, quantity=HARDER),
)
REGIME_CLAIMS = tuple(
    Claim(
        text=f"{regime.title}: LUFFY against {METHODS[method].title}",
        more=LUFFY,
        less=method,
        quantity=quantity,
        regime=name,
    )
    for name, regime in REGIMES.items()
    if regime is not MAIN
    for method in regime.methods
    if method != LUFFY
    for quantity in ((LAST, BEST, HARDER) if method == SFT else (LAST,))
    if quantity is not BEST or regime.points > 1
)
"""The paper expects more of LUFFY everywhere; the margin decides, as above."""


def against_the_bar(regime: str, methods: Sequence[str]) -> list[Claim]:
    """That a method solves more than SFT then RL, for each of a regime's methods but that one: each method's paper expects it."""
    return [Claim(text=METHODS[name].title, more=name, less=SFT_RL, quantity=LAST, regime=regime) for name in methods if name != SFT_RL]


BESIDE = {Outcome.REPRODUCED: "more", Outcome.OPPOSITE: "less"}  # outcome of such a claim in a word


def decide(claim: Claim, results: Sequence[CellResult]) -> Statement:
    """Compare two methods seed by seed.

    "As in the paper" (or the opposite) needs a mean difference beyond the margin that has this sign in every seed; "no
    difference" is a mean within the margin; everything else is open.
    """
    more, less = (_by_seed(results, claim.regime, method, claim.quantity) for method in (claim.more, claim.less))
    seeds = sorted(more.keys() & less.keys())
    if not seeds:
        return Statement(text=claim.text, outcome=Outcome.NOT_RUN, quantity=claim.quantity, values={})
    outcome = _outcome([more[seed] - less[seed] for seed in seeds], claim.quantity.margin)
    values = {METHODS[claim.more].title: _chosen(more, seeds), METHODS[claim.less].title: _chosen(less, seeds)}
    return Statement(text=claim.text, outcome=outcome, quantity=claim.quantity, values=values)


def decide_stall(results: Sequence[CellResult]) -> Statement:
    """Whether on-policy RL stalls in every seed where LUFFY, from the same base, does not."""
    text = "On-policy RL stalls where the base cannot succeed, and guided RL does not."
    stalled, guided = (_by_seed(results, MAIN.name, method, LAST) for method in (ON_POLICY, LUFFY))
    seeds = sorted(stalled.keys() & guided.keys())
    if not seeds:
        return Statement(text=text, outcome=Outcome.NOT_RUN, quantity=LAST, values={})
    outcomes = [stalled[seed] <= STALLED and guided[seed] >= STARTED for seed in seeds]
    outcome = Outcome.REPRODUCED if all(outcomes) else Outcome.OPEN if any(outcomes) else Outcome.NOT_REPRODUCED
    values = {METHODS[ON_POLICY].title: _chosen(stalled, seeds), METHODS[LUFFY].title: _chosen(guided, seeds)}
    return Statement(text=text, outcome=outcome, quantity=LAST, values=values)


def _by_seed(results: Sequence[CellResult], regime: str, method: str, quantity: Quantity) -> dict[int, float]:
    return {
        result.cell.seed: quantity.value(result)
        for result in results
        if (result.cell.regime.name, result.cell.method.name) == (regime, method)
    }


def _outcome(differences: Sequence[float], margin: float) -> Outcome:
    mean = statistics.fmean(differences)
    if abs(mean) <= margin:
        return Outcome.NO_DIFFERENCE
    if all(difference * mean > 0 for difference in differences):
        return Outcome.REPRODUCED if mean > 0 else Outcome.OPPOSITE
    return Outcome.OPEN


def _chosen(found: dict[int, float], seeds: Sequence[int]) -> tuple[float, ...]:
    return tuple(found[seed] for seed in seeds)


def _values(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)
