"""What a training run leaves for people: a summary, a table and pictures, from its metrics file.

A metrics file has one JSON object a line, ``{"step": int, "data": {name: number}}``, as veRL's file logger writes it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luffy.errors import InputError
from luffy.figures import figure, legend, line, share_axis, step_axis, value_axis
from luffy.files import replacing

VALIDATION = re.compile(r"^val-(?:core|aux)/(?P<source>.+)/(?P<measure>acc|reward)/mean@(?P<n>\d+)$")
GREEDY_SUFFIX = "_greedy"
ENTROPY_STEPS = 10  # the summary's entropy is the mean over this many last steps, where it was measured
CURVES = {
    "reward": ("on_policy/reward", "off_policy/reward"),
    "entropy": ("on_policy/entropy", "off_policy/entropy"),
    "response_length": ("on_policy/response_length", "off_policy/response_length"),
    "demonstration_probability": ("off_policy/probability",),
}
PANELS = {  # of each panel, the metric of the rollouts, or veRL's of all rows where a log has no other: demonstrations are no rollouts
    "Entropy": ("on_policy/entropy", "actor/entropy"),
    "Reward": ("on_policy/reward", "critic/score/mean"),
    "Response length (tokens)": ("on_policy/response_length", "response_length/mean"),
}
UNITS = {"entropy": "nats a token", "response_length": "tokens", "heldout_accuracy": "accuracy", "heldout_reward": "reward"}
SHARES = ("heldout_accuracy", "demonstration_probability")


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One metric over training: equally many steps and values."""

    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """Records of a metrics file, one a step, in the order of the steps.

    A step that was logged twice (a validation repeated where a run goes on) is joined, what came first wins; a last line that a
    killed run left torn is ignored. Metrics that stand beside ``step`` instead of under ``data`` are read too.

    Raises:
        InputError: where the file is absent or a line is not such an object.
    """
    if not Path(file).is_file():
        raise InputError(f"{file}: no such file; give a JSON-lines file of a training run's metrics")
    steps: dict[float, dict[str, Any]] = {}
    with Path(file).open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line, parse_int=_integer)
                step, data = float(record["step"]), record["data"] if "data" in record else {k: v for k, v in record.items() if k != "step"}
                step = int(step) if step.is_integer() else step
                steps[step] = data | steps.get(step, {})
            except (ValueError, LookupError, TypeError, RecursionError) as error:
                if line.endswith(b"\n"):
                    raise InputError(f"{file}: line {number} is not a JSON object with 'step' and metrics") from error
    return [{"step": step, "data": steps[step]} for step in sorted(steps)]


def _integer(text: str) -> float:
    """An integer, as a float where a float cannot hold it exactly anyway: infinity beyond 1e308."""
    return int(text) if len(text) < 300 else float(text)


def write_metrics(file: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write a metrics file anew: one line a record."""
    with replacing(Path(file)) as temporary:
        temporary.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def curve(records: Sequence[dict[str, Any]], name: str) -> Curve:
    """One metric of ``records``, at the steps that have it as a number: other loggers write nulls and texts as well."""
    found = [(record["step"], record["data"].get(name)) for record in records]
    points = [(step, float(value)) for step, value in found if isinstance(value, int | float)]
    return Curve(name=name, steps=tuple(s for s, _ in points), values=tuple(v for _, v in points))


def held_out_accuracy(data: dict[str, Any]) -> dict[str, float]:
    """Validation accuracy in one record: ``avg@N`` and ``greedy``, in this order, each the mean over the data sources.

    The score of a user's own reward function comes after them, as ``reward avg@N`` and ``reward greedy``.
    """
    found: dict[str, list[float]] = {}
    for key, value in data.items():
        if (match := VALIDATION.match(key)) and isinstance(value, int | float):
            greedy = match["source"].endswith(GREEDY_SUFFIX)
            measure = "" if match["measure"] == "acc" else "reward "
            found.setdefault(measure + ("greedy" if greedy else f"avg@{match['n']}"), []).append(float(value))
    return {name: sum(values) / len(values) for name, values in sorted(found.items())}


def summarize(records: Sequence[dict[str, Any]], **facts: Any) -> dict[str, Any]:
    """The summary of a run: accuracy before and after, entropy at the end, overhead, and ``facts`` as given.

    What was not measured is None: before, where no validation was made at step 0; after, where none was made at all.
    """
    validations = [(record["step"], found) for record in records if (found := held_out_accuracy(record["data"]))]
    before = next((found for step, found in validations if step == 0), {})
    after = validations[-1][1] if validations else {}
    steps = max((record["step"] for record in records), default=0)
    measured = curve(records, "on_policy/entropy")
    entropy = [value for step, value in zip(measured.steps, measured.values, strict=True) if step > steps - ENTROPY_STEPS]
    overhead = curve(records, "timing/overhead_share").values
    return {
        **facts,
        "steps": steps,
        "heldout_avg8_before": before.get("avg@8"),
        "heldout_avg8_after": after.get("avg@8"),
        "heldout_greedy_before": before.get("greedy"),
        "heldout_greedy_after": after.get("greedy"),
        "heldout_before": before,
        "heldout_after": after,
        "entropy_last10": sum(entropy) / len(entropy) if entropy else None,
        "overhead_share": sum(overhead) / len(overhead) if overhead else None,
    }


def plot_training(records: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """Write the curves of a run as pictures (PNG and SVG).

    Args:
        records: as :func:`read_metrics` returns them.
        folder: gets ``reward.png``, ``entropy.png`` and their siblings.

    Returns:
        The PNG files.
    """
    accuracy = [(record["step"], held_out_accuracy(record["data"])) for record in records]
    names = dict.fromkeys(name for _, found in accuracy for name in found)
    figures = {title: [curve(records, name) for name in curves] for title, curves in CURVES.items()}
    for name in names:
        own = name.startswith("reward ")
        points = [(step, found[name]) for step, found in accuracy if name in found]
        steps, values = zip(*points, strict=True)
        title = "heldout_reward" if own else "heldout_accuracy"
        figures.setdefault(title, []).append(Curve(name=name, steps=steps, values=values))
    files = []
    for title, curves in figures.items():
        if curves := [each for each in curves if each.steps]:
            files.append(_plot(curves, folder / title))
    return files


def plot_runs(runs: Mapping[str, Sequence[dict[str, Any]]], path: Path) -> None:
    """Entropy, reward and response length of the rollouts over training, in one picture; a line a run.

    Args:
        runs: by name its records.
        path: where to save, without a suffix.

    Raises:
        InputError: where no run has any of the metrics.
    """
    panels = {}
    for title, names in PANELS.items():
        found = {label: [each for name in names if (each := _finite(curve(records, name))).steps][:1] for label, records in runs.items()}
        if lines := {label: each[0] for label, each in found.items() if each}:
            panels[title] = lines
    if not panels:
        raise InputError(f"the metrics files have none of {', '.join(name for names in PANELS.values() for name in names)}")
    with figure(path, panels=len(panels)) as axes:
        for axis, (title, lines) in zip(axes, panels.items(), strict=True):
            for label, each in lines.items():
                line(axis, each.steps, each.values, label=label)
            axis.set_title(title)
            step_axis(axis, "Step")
            value_axis(axis, "")
            legend(axis)


def _finite(all_points: Curve) -> Curve:
    points = [(step, value) for step, value in zip(all_points.steps, all_points.values, strict=True) if math.isfinite(value)]
    return Curve(name=all_points.name, steps=tuple(step for step, _ in points), values=tuple(value for _, value in points))


def _plot(curves: Sequence[Curve], path: Path) -> Path:
    title = path.name.replace("_", " ")
    label = UNITS.get(path.name, title)
    with figure(path) as (axes,):
        for each in curves:
            line(axes, each.steps, each.values, label=each.name)
        axes.set_title(title)
        step_axis(axes)
        share_axis(axes, label) if path.name in SHARES else value_axis(axes, label)
        legend(axes)
    return path.with_suffix(".png")
