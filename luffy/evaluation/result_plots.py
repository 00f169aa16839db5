"""The paper's figures of evaluation results: response lengths, pass@k over k and over temperature."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from luffy.errors import InputError
from luffy.evaluation.results import BenchmarkResult, Result
from luffy.evaluation.tables import shortfall
from luffy.figures import PANEL, figure, legend, line, share_axis, value_axis

PASS_K = 8  # the k of the paper's figure of pass@k against temperature
GROUP_INCHES = 0.9  # width of a model's bars


def plot_lengths(results: Sequence[Result], path: Path) -> bool:
    """Response length of right and wrong answers: the mean of each with its quartiles, a group of bars a model.

    Returns:
        Whether there was anything to draw: samples of other programs may not have their lengths.
    """
    lengths = {kind: [_lengths(result, kind) for result in results] for kind in ("right", "wrong")}
    kinds = [kind for kind, of_models in lengths.items() if any(of_models)]
    if not kinds:
        return False
    with figure(path, width=max(PANEL[0], 1.5 + GROUP_INCHES * len(results))) as (axis,):
        for kind in kinds:
            shift = {"right": -0.2, "wrong": 0.2}[kind] if len(kinds) > 1 else 0.0
            places = [place + shift for place, found in enumerate(lengths[kind]) if found]
            quartiles = np.array([np.quantile(found, [0.25, 0.75]) for found in lengths[kind] if found])
            means = [np.mean(found) for found in lengths[kind] if found]
            axis.bar(places, means, width=0.38, color={"right": "C0", "wrong": "C3"}[kind], label=kind)
            axis.vlines(places, quartiles[:, 0], quartiles[:, 1], color="black", linewidth=1)
        slant = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if len(results) > 1 else {}
        axis.set_xticks(range(len(results)), [_label(result) for result in results], **slant)
        middle, reach = (len(results) - 1) / 2, max(len(results), 3) / 2
        axis.set_xlim(middle - reach, middle + reach)
        value_axis(axis, "Response length (tokens)")
        axis.grid(False, axis="x")
        legend(axis, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return True


def plot_pass_at_k(results: Sequence[Result], path: Path) -> bool:
    """Pass@k over k, averaged over the benchmarks with several samples of each problem; a line a model.

    Returns:
        Whether there was anything to draw: results of one sample a problem have no such line.
    """
    lines = {}
    for result in results:
        several = [b for b in result.columns.values() if b.fewest_samples > 1]
        if several:
            most = min(b.fewest_samples for b in several)
            ks = sorted({2**power for power in range(most.bit_length()) if 2**power <= most} | {most})
            lines[_label(result)] = (ks, [100 * _mean_pass(several, k) for k in ks])
    if not lines:
        return False
    with figure(path) as (axis,):
        for name, (ks, values) in lines.items():
            line(axis, ks, values, label=name)
        ticks = sorted({k for ks, _ in lines.values() for k in ks if k & (k - 1) == 0})
        axis.set_xscale("log", base=2)
        axis.set_xticks(ticks, [str(k) for k in ticks])
        axis.set_xlabel("k")
        share_axis(axis, "pass@k (%)", most=100)
        legend(axis)
    return True


def plot_pass_over_temperature(results: Sequence[Result], path: Path, *, k: int = PASS_K) -> None:
    """Pass@k over the sampling temperature; a line for each model, a panel for each benchmark.

    Raises:
        InputError: where no benchmark was run with k samples at a known temperature.
    """
    titles = list(dict.fromkeys(entry.title for result in results for entry in result.columns))
    panels = {title: found for title in titles if (found := _temperature_lines(results, title, k))}
    if not panels:
        raise InputError(f"no result has {k} samples of each problem and a temperature in its manifest; use --n {k}")
    with figure(path, panels=len(panels)) as axes:
        for axis, (title, by_model) in zip(axes, panels.items(), strict=True):
            for model, points in by_model.items():
                line(axis, *zip(*sorted(points), strict=True), label=model)
            axis.set_title(title)
            axis.set_xlabel("Temperature")
            axis.set_xticks(sorted({temperature for points in by_model.values() for temperature, _ in points}))
            axis.margins(x=0.1)
            share_axis(axis, f"pass@{k} (%)", most=100)
            legend(axis)


def _lengths(result: Result, kind: str) -> list[float]:
    return [length for each in result.benchmarks.values() for length in getattr(each, f"{kind}_lengths")]


def _mean_pass(benchmarks: Sequence[BenchmarkResult], k: int) -> float:
    return float(np.mean([np.mean(result.scores(k)) for result in benchmarks]))


def _temperature_lines(results: Sequence[Result], title: str, k: int) -> dict[str, list[tuple[float, float]]]:
    lines: dict[str, list[tuple[float, float]]] = {}
    for result in results:
        found = next((each for entry, each in result.columns.items() if entry.title == title), None)
        if found is not None and found.fewest_samples >= k and result.temperature is not None:
            lines.setdefault(_label(result), []).append((result.temperature, 100 * _mean_pass([found], k)))
    return lines


def _label(result: Result) -> str:
    """The model's name, with what is missing of its samples and problems."""
    columns = result.columns.items()
    plans = [each.planned for _, each in columns]
    wholes = [entry.problems or each.of for entry, each in columns]
    missing = shortfall(
        sum(each.total for _, each in columns),
        None if None in plans else sum(plans) + sum(result.absent.values()),
        sum(len(each.samples) for _, each in columns),
        None if None in wholes else sum(wholes),
    )
    return f"{result.name}\n({missing})" if missing else result.name
