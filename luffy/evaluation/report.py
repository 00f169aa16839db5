"""A report: the tables and the paper's figures, written into one folder; and the summary beside a result."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from luffy.command_line import Positive, option
from luffy.errors import InputError
from luffy.evaluation.manifest import decoded_path
from luffy.evaluation.results import BenchmarkResult, Result, merge, read_result
from luffy.evaluation.tables import label_temperatures, make_tables, shortfall, to_csv, to_json, to_markdown
from luffy.figures import PANEL, figure, legend, line, share_axis, value_axis
from luffy.files import replacing
from luffy.training_report import plot_runs, read_metrics

logger = logging.getLogger(__name__)

RUN_METRICS = "metrics.jsonl"  # in the folder of a run, whose name is the run's
PASS_K = 8  # the k of the paper's figure of pass@k against temperature
GROUP_INCHES = 0.9  # width of a model's bars


@dataclass(frozen=True, kw_only=True)
class ReportRequest:
    """What a report is made of: the flags of ``eval_scripts/report.py``."""

    results: tuple[Path, ...] = option((), "JSONL files of scored samples", positional=True, nargs="*", metavar="RESULT")
    names: tuple[str, ...] | None = option(None, "a name for each RESULT; default: its file's name", metavar="NAME")
    output_dir: Path = option(Path("report"), "where files go")
    published: bool = option(False, "add the paper's rows to the tables")
    figures: bool = option(False, "draw response lengths, pass@k over k and over temperature")
    pass_k: Positive = option(PASS_K, "the k of pass@k over temperature, of the paper by default")
    metrics: tuple[Path, ...] | None = option(None, "JSON-lines metrics of training runs", metavar="FILE")
    metrics_names: tuple[str, ...] | None = option(None, "a name for each of them; default: its file's or run folder's", metavar="NAME")
    shaping: bool = option(False, "draw loss and gradient weight against p for every shaping function")
    gamma: tuple[float, ...] = option((0.1,), "γ of p / (p + γ), a curve each")


def write_report(request: ReportRequest) -> None:
    """Write ``tables.md``, ``tables.csv``, ``tables.json`` and the figures that were asked for.

    Raises:
        InputError: where a file cannot be read or written, or nothing was asked for.
    """
    if not (request.results or request.metrics or request.shaping):
        raise InputError("nothing to report: give files of scored samples, --metrics, or --shaping")
    if request.results:
        files = _scored(request.results)
        names = _names(files, request.names, "--names") if request.names else [None] * len(files)
        read = [read_result(path, name=name) for path, name in zip(files, names, strict=True)]
        results = merge(read)
        _write_tables(results, request)
        if request.figures:
            _draw(results, request)
    if request.metrics:
        names = _names(request.metrics, request.metrics_names, "--metrics_names")
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise InputError(f"two of --metrics are called {twice}, and one would hide the other; give --metrics_names")
        runs = {name: read_metrics(path) for name, path in zip(names, request.metrics, strict=True)}
        plot_runs(runs, request.output_dir / "training")
    if request.shaping:
        if min(request.gamma) <= 0:
            raise InputError(f"--gamma {min(request.gamma)}: must be above 0")
        plot_shaping(request.output_dir / "shaping", gammas=request.gamma)
    logger.info("report in %s", request.output_dir)


def _scored(files: Sequence[Path]) -> list[Path]:
    """Without the unscored samples (``NAME.decoded.jsonl``) of a result that is there as well: ``results/*.jsonl`` has both."""
    unscored = {decoded_path(path.resolve()) for path in files}
    return [path for path in files if path.resolve() not in unscored]


def write_summary(result: Path, output: Path | None = None) -> None:
    """Write the tables of one file of scored samples as JSON, beside it or where ``output`` says; and log them."""
    tables = make_tables([read_result(result)])
    _write(output or result.with_name(result.name.removesuffix(".jsonl") + ".summary.json"), to_json(tables))
    logger.info("%s", to_markdown(tables))


def _write_tables(results: Sequence[Result], request: ReportRequest) -> None:
    tables = make_tables(label_temperatures(results))
    markdown = to_markdown(tables, published=request.published)
    for suffix, text in (("md", markdown), ("csv", to_csv(tables)), ("json", to_json(tables))):
        _write(request.output_dir / f"tables.{suffix}", text)
    logger.info("%s", markdown)


def _draw(results: Sequence[Result], request: ReportRequest) -> None:
    labelled = label_temperatures(results)
    if not plot_lengths(labelled, request.output_dir / "lengths"):
        logger.info("no figure of lengths: the samples do not have theirs")
    if not plot_pass_at_k(labelled, request.output_dir / "pass_at_k"):
        logger.info("no figure of pass@k over k: no result has several samples of each problem")
    if len({result.temperature for result in results} - {None}) > 1:
        plot_pass_over_temperature(results, request.output_dir / "pass_over_temperature", k=request.pass_k)


def _names(paths: Sequence[Path], names: Sequence[str] | None, flag: str) -> list[str]:
    names = names and [name.strip() for name in names]
    if names is None:
        return [path.resolve().parent.name if path.name == RUN_METRICS else path.name.removesuffix(".jsonl") for path in paths]
    if len(names) != len(paths):
        raise InputError(f"{flag} gives {len(names)} names for {len(paths)} files; give one for each, in their order")
    return list(names)


def _write(path: Path, text: str) -> None:
    """Write a whole file, or leave what is there."""
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise InputError(f"{path}: cannot write ({error.strerror}); give another place or make room") from error


def plot_lengths(results: Sequence[Result], path: Path) -> bool:
    """Response length of right and wrong answers: the mean of each with its quartiles, a group of bars a model.

    Returns:
        Whether there was anything to draw: samples of other programs may not have their lengths.
    """
    lengths = {
        kind: [[length for each in result.benchmarks.values() for length in each.lengths(correct=kind == "right")] for result in results]
        for kind in ("right", "wrong")
    }
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
        axis.set_xticks(range(len(results)), [_label(result) for result in results])
        if len(results) > 1:
            for label in axis.get_xticklabels():
                label.set(rotation=30, ha="right", rotation_mode="anchor")
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
            ks = min(several, key=lambda each: each.fewest_samples).ks
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
    columns = result.columns
    planned = [each.planned for each in columns.values()]
    whole = [entry.problems or each.of for entry, each in columns.items()]
    missing = shortfall(
        sum(each.total for each in columns.values()),
        _sum(planned, more=sum(result.absent.values())),
        sum(each.problems for each in columns.values()),
        _sum(whole),
    )
    return f"{result.name}\n({missing})" if missing else result.name


def _sum(numbers: Sequence[int | None], *, more: int = 0) -> int | None:
    """The sum of numbers that are all known."""
    known = [number for number in numbers if number is not None]
    return sum(known) + more if len(known) == len(numbers) else None


@dataclass(frozen=True, kw_only=True)
class ShapingCurve:
    """A shaping function on a grid of probabilities: f(p), and f'(p)·p, the weight on the gradient of log p."""

    label: str
    loss: np.ndarray
    gradient: np.ndarray


def shaping_curves(probabilities: np.ndarray, *, gammas: Sequence[float] = (0.1,)) -> list[ShapingCurve]:
    """Every shaping function on a grid.

    Args:
        probabilities: ``(P,)`` p in (0, 1].
        gammas: the γ of p / (p + γ); a curve for each.
    """
    import torch

    from luffy.objective.shaping import Identity, Log, PDivP, Pow, PPlusLog, Sqrt

    shapings = {
        "p": Identity(),
        "0.1·log p": Log(weight=0.1),
        "p + 0.1·log p": PPlusLog(weight=0.1),
        "√p": Sqrt(),
        "p^0.25": Pow(exponent=0.25),
    }
    shapings |= {f"p / (p + {gamma:g})": PDivP(gamma=gamma) for gamma in gammas}
    curves = []
    for label, shaping in shapings.items():
        log_p = torch.from_numpy(probabilities).log().requires_grad_()
        shaped = shaping(log_p)
        (gradient,) = torch.autograd.grad(shaped.sum(), log_p)
        curves.append(ShapingCurve(label=label, loss=shaped.detach().numpy(), gradient=gradient.numpy()))
    return curves


def plot_shaping(path: Path, *, gammas: Sequence[float] = (0.1,)) -> None:
    """Loss weight and gradient weight against the probability of a demonstration's token."""
    grid = np.linspace(0.002, 1.0, 500)
    with figure(path, panels=2) as (left, right):
        for curve in shaping_curves(grid, gammas=gammas):
            left.plot(grid, curve.loss, label=curve.label)
            right.plot(grid, curve.gradient, label=curve.label)
        left.set_title("Loss weight f(p)")
        right.set_title("Gradient weight f'(p)·p")
        left.set_ylim(-1.0, 1.05)
        for axis in (left, right):
            axis.set_xlabel("p")
            legend(axis)
