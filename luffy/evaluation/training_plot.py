"""Training curves from the metrics files of training runs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from luffy.errors import InputError
from luffy.figures import figure, legend, line, step_axis, value_axis

CURVES = {  # of each panel, the metric of the rollouts, or veRL's of all rows where a log has no other: demonstrations are no rollouts
    "Entropy": ("on_policy/entropy", "actor/entropy"),
    "Reward": ("on_policy/reward", "critic/score/mean"),
    "Response length (tokens)": ("on_policy/response_length", "response_length/mean"),
}


def read_metrics(path: str | Path) -> dict[str, list[tuple[float, float]]]:
    """Read a training log of one JSON object a line, each with ``step`` and metrics by name.

    Returns:
        For each metric its (step, value) points. Metrics under ``data``, as veRL's file logger writes them, are read too.

    Raises:
        InputError: where the file is absent or a line is not such an object.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; --metrics takes JSON-lines files of a training run")
    curves: dict[str, list[tuple[float, float]]] = {}
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            entry = json.loads(text)
            step, metrics = entry["step"], entry.get("data", entry)
            values = {name: float(x) for name, x in metrics.items() if isinstance(x, (int, float)) and name != "step"}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: line {number} is not a JSON object with 'step' and metrics") from error
        for name, value in values.items():
            if math.isfinite(value):
                curves.setdefault(name, []).append((float(step), value))
    return curves


def plot_training(runs: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], path: Path) -> None:
    """Entropy, reward and response length of the rollouts over training; a line a run.

    Args:
        runs: by name what :func:`read_metrics` returned.
        path: where to save, without a suffix.

    Raises:
        InputError: where no run has any of the metrics.
    """
    panels = {}
    for title, names in CURVES.items():
        found = {label: next((curves[name] for name in names if name in curves), None) for label, curves in runs.items()}
        if lines := {label: points for label, points in found.items() if points}:
            panels[title] = lines
    if not panels:
        raise InputError(f"the metrics files have none of {', '.join(name for names in CURVES.values() for name in names)}")
    with figure(path, panels=len(panels)) as axes:
        for axis, (title, lines) in zip(axes, panels.items(), strict=True):
            for label, points in lines.items():
                line(axis, *zip(*points, strict=True), label=label)
            axis.set_title(title)
            step_axis(axis, "Step")
            value_axis(axis, "")
            legend(axis)
