"""Training curves of several methods in one picture: mean over seeds, and the range between them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from luffy.comparison.collect import ENTROPY, HELD_OUT, LENGTH, PROBABILITY, REWARD, CellResult
from luffy.comparison.methods import METHODS
from luffy.figures import figure, legend, line, share_axis, step_axis, value_axis

PICTURES = {  # file name: metric, label of the vertical axis
    "heldout": (HELD_OUT, "held-out avg@8"),
    "reward": (REWARD, "reward of the rollouts"),
    "entropy": (ENTROPY, "entropy (nats a token)"),
    "response_length": (LENGTH, "response length (tokens)"),
    "demonstration_probability": (PROBABILITY, "probability of a demonstration's token"),
}

SHARES = (HELD_OUT, REWARD, PROBABILITY)


def draw(results: Sequence[CellResult], methods: Sequence[tuple[str, str]], folder: Path) -> list[str]:
    """Write the pictures of one regime as PNG and SVG.

    Args:
        results: of one regime.
        methods: names and titles. One of the paper's has its own colour in all pictures, another that of its place.
        folder: where pictures go.

    Returns:
        Names of the pictures, without a suffix; one without any curve is left out, and so are held-out problems where
        runs look at them at their ends alone.
    """
    drawn = []
    ends_alone = all(result.cell.regime.points == 1 for result in results)
    for name, (metric, label) in PICTURES.items():
        if metric == HELD_OUT and ends_alone:
            continue
        lines = [(_color(method, place), title, band(results, method, metric)) for place, (method, title) in enumerate(methods)]
        if not any(points for _, _, points in lines):
            continue
        with figure(folder / name, formats=("png",)) as (axes,):
            for color, title, points in lines:
                if points:
                    _line(axes, points, title, color)
            step_axis(axes)
            share_axis(axes, label) if metric in SHARES else value_axis(axes, label)
            legend(axes)
        drawn.append(name)
    return drawn


def band(results: Sequence[CellResult], method: str, metric: str) -> list[tuple[int, float, float, float]]:
    """Step, mean, smallest and largest value over a method's seeds, at the steps that all of them have."""
    curves = [result.curves[metric] for result in results if result.cell.method.name == method]
    by_step = [dict(zip(each.steps, each.values, strict=True)) for each in curves]
    shared = sorted(set.intersection(*map(set, by_step))) if by_step else []
    columns = [(step, [values[step] for values in by_step]) for step in shared]
    return [(step, statistics.fmean(values), min(values), max(values)) for step, values in columns]


def _color(method: str, place: int) -> str:
    return f"C{list(METHODS).index(method) if method in METHODS else place}"


def _line(axes, points: Sequence[tuple[int, float, float, float]], title: str, color: str) -> None:
    steps, means, low, high = zip(*points, strict=True)
    line(axes, steps, means, label=title, color=color)
    axes.fill_between(steps, low, high, color=color, alpha=0.15, linewidth=0)
