"""What a training run leaves for people: a summary, a table and pictures, from its metrics file.

A metrics file has one JSON object a line, ``{"step": int, "data": {name: number}}``, as veRL's file logger writes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luffy.data.atomic import replacing
from luffy.figures import figure, legend, line, share_axis, step_axis, value_axis

VALIDATION = re.compile(r"^val-(?:core|aux)/(?P<source>.+)/(?P<measure>acc|reward)/mean@(?P<n>\d+)$")
GREEDY_SUFFIX = "_greedy"
ENTROPY_STEPS = 10  # the summary's entropy is the mean over this many last steps, where it was measured
CURVES = {
    "reward": ("on_policy/reward", "off_policy/reward"),
    "entropy": ("on_policy/entropy", "off_policy/entropy"),
    "response_length": ("on_policy/response_length", "off_policy/response_length"),
    "demonstration_probability": ("off_policy/probability",),
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
    killed run left torn is ignored.
    """
    steps: dict[int, dict[str, Any]] = {}
    with Path(file).open(encoding="utf-8") as lines:
        for line in lines:
            if not line.endswith("\n"):
                break
            record = json.loads(line)
            steps[record["step"]] = record["data"] | steps.get(record["step"], {})
    return [{"step": step, "data": steps[step]} for step in sorted(steps)]


def write_metrics(file: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write a metrics file anew: one line a record."""
    with replacing(Path(file)) as temporary:
        temporary.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def curve(records: Sequence[dict[str, Any]], name: str) -> Curve:
    """One metric of ``records``, at the steps that have it."""
    points = [(record["step"], float(record["data"][name])) for record in records if name in record["data"]]
    return Curve(name=name, steps=tuple(s for s, _ in points), values=tuple(v for _, v in points))


def held_out_accuracy(data: dict[str, Any]) -> dict[str, float]:
    """Validation accuracy in one record: ``avg@N`` and ``greedy``, in this order, each the mean over the data sources.

    The score of a user's own reward function comes after them, as ``reward avg@N`` and ``reward greedy``.
    """
    found: dict[str, list[float]] = {}
    for key, value in data.items():
        if match := VALIDATION.match(key):
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
