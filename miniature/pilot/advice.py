"""From the numbers of a pilot to words: which method, how sure, what would change it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from luffy.evaluation.estimators import Interval
from miniature.pilot.bootstrap import difference, interval, problems_needed

RULE = (
    "Of the methods of the last rung that cannot be told from the best one (the 95 % interval of the difference holds 0), those that "
    "forget on the second held-out set are left out where others do not, and the one with the fewest FLOPs is recommended; none is where "
    "the best cannot be told from the start model."
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a method has come to on its last rung.

    Attributes:
        name: of the method.
        title: what people call it.
        rung: its last one, from 1.
        scores_SP: share of right answers, a seed and held-out problem.
        kept_SP: the same on the second held-out set; None: there is none.
        flops: of its training, all seeds.
    """

    name: str
    title: str
    rung: int
    scores_SP: np.ndarray
    kept_SP: np.ndarray | None
    flops: float

    @property
    def mean(self) -> float:
        """Mean score."""
        return float(self.scores_SP.mean())


@dataclass(frozen=True, kw_only=True)
class Advice:
    """The recommendation: a method's name or None, and the sentences for it and on what would change it."""

    method: str | None
    because: tuple[str, ...]
    unless: tuple[str, ...]


def advise(
    outcomes: Sequence[Outcome],
    base_SP: np.ndarray,
    base_kept_SP: np.ndarray | None,
    earlier: Mapping[int, Mapping[str, np.ndarray]],
) -> Advice:
    """Choose by :data:`RULE`.

    Args:
        outcomes: of all methods.
        base_SP: [1, P] scores of the start model.
        base_kept_SP: the same on the second held-out set; None: there is none.
        earlier: by rung, from 1, the scores of all methods that it had.
    """
    last = max(each.rung for each in outcomes)
    finalists = sorted((each for each in outcomes if each.rung == last), key=lambda each: -each.mean)
    best = finalists[0]
    gain = difference(best.scores_SP, base_SP)
    told = [f"The start model answers {_percent(interval(base_SP))} right."]
    told += [f"{each.title} answers {_percent(interval(each.scores_SP))} right after the last rung." for each in finalists]
    unless = _doubts(outcomes, finalists, earlier)
    if holds_zero(gain) or gain.value < 0:
        told.append(f"No method can be told from the start model: {best.title} differs by {_signed(gain)}.")
        return Advice(method=None, because=tuple(told), unless=(*unless, "A longer pilot, an easier set, or a base that can learn it."))
    level = [each for each in finalists if each is best or holds_zero(difference(best.scores_SP, each.scores_SP))]
    told += [_beside(best, each) for each in finalists[1:]]
    forgetting = {each.name: difference(each.kept_SP, base_kept_SP) for each in finalists if each.kept_SP is not None}
    lost = {name for name, change in forgetting.items() if change.high < 0}
    told += [_forgets(each, forgetting[each.name]) for each in finalists if each.name in forgetting]
    chosen = min([each for each in level if each.name not in lost] or level, key=lambda each: each.flops)
    if chosen is not best:
        why = "keeps what the start model could" if best.name in lost and chosen.name not in lost else "costs less"
        told.append(f"{chosen.title} is level with {best.title} and {why} ({chosen.flops:.2g} beside {best.flops:.2g} FLOPs).")
    return Advice(method=chosen.name, because=tuple(told), unless=tuple(unless))


def holds_zero(found: Interval) -> bool:
    """Whether 0 is in the interval."""
    return found.low <= 0 <= found.high


def _beside(best: Outcome, other: Outcome) -> str:
    gap = difference(best.scores_SP, other.scores_SP)
    verdict = "cannot be told from" if holds_zero(gap) else "is ahead of"
    return f"{best.title} {verdict} {other.title}: {_signed(gap)}."


def _forgets(of: Outcome, change: Interval) -> str:
    verdict = "forgets" if change.high < 0 else "gains" if change.low > 0 else "shows no loss"
    return f"On the second held-out set {of.title} {verdict}: {_signed(change)}."


def _doubts(outcomes: Sequence[Outcome], finalists: Sequence[Outcome], earlier: Mapping[int, Mapping[str, np.ndarray]]) -> list[str]:
    """What the choice hangs on."""
    found, best = [], finalists[0]
    seeds, problems = best.scores_SP.shape
    for other in finalists[1:]:
        gap = difference(best.scores_SP, other.scores_SP)
        if holds_zero(gap) and (needed := problems_needed(gap, problems)) is not None:
            found.append(f"About {needed} problems instead of {problems} would tell {best.title} from {other.title}, if the gap stays.")
    for each in outcomes:
        if each.rung < best.rung:
            rung = earlier[each.rung]
            ahead = max((name for name in rung if name in {one.name for one in finalists}), key=lambda name: rung[name].mean())
            gap = difference(rung[ahead], each.scores_SP)
            if holds_zero(gap):
                found.append(
                    f"{each.title} was dropped after rung {each.rung} within the noise ({_signed(gap)} behind the best that stayed)."
                )
    for number, rung in sorted(earlier.items()):
        leader = max((name for name in rung), key=lambda name: rung[name].mean())
        if leader != best.name:
            title = next(each.title for each in outcomes if each.name == leader)
            found.append(f"{title} led after rung {number}: the order changes with the steps, and may change again in a full run.")
    if seeds == 1:
        found.append("One seed: the chance of a training is in no interval; --seeds 0 1 2 has it.")
    if best.kept_SP is None:
        found.append("Nothing was asked beside the task: --heldout2 shows what a method forgets.")
    return found


def _percent(found: Interval) -> str:
    return f"{100 * found.value:.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _signed(found: Interval) -> str:
    return f"{100 * found.value:+.1f} points [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
