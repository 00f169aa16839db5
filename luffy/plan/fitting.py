"""What makes a run fit: the nearest change of its settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from luffy.plan.memory import Layout, Parts


@dataclass(frozen=True, kw_only=True)
class Change:
    """A setting of a run that gives room, and how to ask for it.

    Attributes:
        overrides: by key.
        layout: with it.
    """

    overrides: dict[str, Any]
    layout: Layout


def short_of(phases: Mapping[str, Parts], available: float) -> dict[str, float]:
    """Bytes that are missing, by phase."""
    needed = {phase: sum(parts.values()) for phase, parts in phases.items()}
    return {phase: size - available for phase, size in needed.items() if size > available}


def nearest(layout: Layout, fits: Callable[[Layout], bool], levers: Sequence[Callable[[Layout], Iterable[Change]]]) -> Change | None:
    """The first change that fits: of one lever from its smallest step on, then of two together, then of more; None where none does.

    Args:
        layout: what does not fit.
        fits: whether a layout does.
        levers: what can be changed, the least harm first; each yields its changes of a layout, the smallest first.
    """
    for size in range(1, len(levers) + 1):
        for chosen in combinations(levers, size):
            made = Change(overrides={}, layout=layout)
            for lever in chosen[:-1]:  # these as far as they go
                made = _on_top(made, list(lever(made.layout))[-1:])
            if found := next((each for each in chosen[-1](made.layout) if fits(each.layout)), None):
                return _on_top(made, [found])
    return None


def _on_top(change: Change, more: Sequence[Change]) -> Change:
    return Change(overrides=change.overrides | more[0].overrides, layout=more[0].layout) if more else change
