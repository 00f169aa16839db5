"""All tables and figures of a report, written into one folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from luffy.errors import InputError
from luffy.evaluation import report
from luffy.evaluation.manifest import decoded_path
from luffy.evaluation.result_plots import PASS_K, plot_lengths, plot_pass_at_k, plot_pass_over_temperature
from luffy.evaluation.results import Result, merge, read_result
from luffy.evaluation.shaping_plot import plot_shaping
from luffy.evaluation.tables import label_temperatures, make_tables
from luffy.evaluation.training_plot import plot_training, read_metrics

logger = logging.getLogger(__name__)

RUN_METRICS = "metrics.jsonl"  # in the folder of a run, whose name is the run's


@dataclass(frozen=True, kw_only=True)
class ReportRequest:
    """What a report is made of; the flags of ``eval_scripts/report.py`` have these names.

    Attributes:
        results: JSONL files of scored samples.
        names: a name for each of them; None takes the files' names.
        output_dir: the folder that the report goes to.
        published: add the paper's rows to the tables.
        figures: draw response lengths, pass@k over k, and pass@k over temperature where several were run.
        pass_k: the k of pass@k over temperature.
        metrics: JSON-lines metrics of training runs, for the training curves.
        metrics_names: a name for each of them, no two alike; None takes the files' names, of a run's ``metrics.jsonl`` its folder's.
        shaping: draw loss and gradient weight of the shaping functions.
        gamma: γ of p / (p + γ); a curve for each.
    """

    results: Sequence[Path] = ()
    names: Sequence[str] | None = None
    output_dir: Path
    published: bool = False
    figures: bool = False
    pass_k: int = PASS_K
    metrics: Sequence[Path] | None = None
    metrics_names: Sequence[str] | None = None
    shaping: bool = False
    gamma: Sequence[float] = (0.1,)


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
        plot_training(runs, request.output_dir / "training")
    if request.shaping:
        if min(request.gamma) <= 0:
            raise InputError(f"--gamma {min(request.gamma)}: must be above 0")
        plot_shaping(request.output_dir / "shaping", gammas=request.gamma)
    logger.info("report in %s", request.output_dir)


def _scored(files: Sequence[Path]) -> list[Path]:
    """Without the unscored samples (``NAME.decoded.jsonl``) of a result that is there as well: ``results/*.jsonl`` has both."""
    unscored = {decoded_path(path.resolve()) for path in files}
    return [path for path in files if path.resolve() not in unscored]


def _write_tables(results: Sequence[Result], request: ReportRequest) -> None:
    tables = make_tables(label_temperatures(results))
    markdown = report.to_markdown(tables, published=request.published)
    report.write_text(request.output_dir / "tables.md", markdown)
    report.write_text(request.output_dir / "tables.csv", report.to_csv(tables))
    report.write_text(request.output_dir / "tables.json", report.to_json(tables))
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
