"""``python -m miniature.comparison run|report|ablation``: run cells, write their report."""

from __future__ import annotations

import argparse
import logging
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from luffy.command_line import Parser, run
from luffy.errors import InputError
from miniature.comparison.archive import add_results, left, read_results
from miniature.comparison.cells import SETS, Cell, Folders, part, plan, plan_variants
from miniature.comparison.estimate import estimate, seconds, table
from miniature.comparison.methods import ABLATIONS, MAIN, METHODS, REGIMES, ablation
from miniature.comparison.report import write_report
from miniature.comparison.results import collect
from miniature.comparison.run import Runner

EXIT_FAILED = 1
ALL = "all"

logger = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    whole = Parser(prog="python -m miniature.comparison", description=__doc__)
    actions = whole.add_subparsers(dest="action", required=True)
    about = {"run": "run what is not finished, then write the report", "report": "write the report alone"}
    for name, text in about.items():
        action = actions.add_parser(name, help=text)
        action.add_argument("--set", choices=tuple(SETS), default="short", help="which regimes (default: short, main and 16 traces)")
        names = f"these regimes instead, of {', '.join(REGIMES)}"
        action.add_argument("--regimes", nargs="+", choices=tuple(REGIMES), metavar="NAME", help=names)
        names = f"these methods in all regimes, beside SFT then RL: {ALL}, or of {', '.join(METHODS)} (default: the regimes' own)"
        action.add_argument("--methods", nargs="+", choices=(ALL, *METHODS), metavar="NAME", default=(), help=names)
        action.add_argument("--part", type=_part, metavar="I/N", help="the I-th of N parts alone, of about the same time")
        _add_shared(action, Path("outputs/compare"))
    action = actions.add_parser("ablation", help="run the variants of one setting of LUFFY, then write the report")
    action.add_argument("name", choices=ABLATIONS)
    _add_shared(action, Path("outputs/ablations"))
    return whole


def _part(text: str) -> tuple[int, int]:
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise argparse.ArgumentTypeError(f"{text!r} is no part; give one of N as I/N, such as 1/4")
    return int(number), int(of)


def _add_shared(action: argparse.ArgumentParser, folder: Path) -> None:
    action.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(default: 0 1 2)")
    action.add_argument("--steps", type=int, help="training steps of every cell (default: the regime's)")
    action.add_argument("--output_dir", type=Path, default=folder, help=f"runs and data (default: {folder})")
    action.add_argument("--dry_run", action="store_true", help="say which cells would run, how long and on how much disk, and stop")
    action.add_argument(
        "--results", type=Path, help="what cells have come to; those in it are not run again (default: in the output folder)"
    )
    action.add_argument("--document", type=Path, help="the report (default: in the output folder)")


def main() -> int:
    """Run the command line; the exit code is 1 where a cell failed."""
    arguments = parser().parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    layout, conclusions = Folders(arguments.output_dir), arguments.action != "ablation"
    if arguments.action == "ablation":
        cells = plan_variants(ablation(arguments.name), arguments.seeds, steps=arguments.steps)
        title, default = f"Ablation: {arguments.name}", f"{arguments.name}.md"
        command = f"exp_scripts/ablation.sh {arguments.name}"
    else:
        names = arguments.regimes or SETS[arguments.set]
        methods = tuple(METHODS) if ALL in arguments.methods else arguments.methods
        cells = plan(names, arguments.seeds, steps=arguments.steps, methods=methods)
        title = "The methods in miniature" + ("" if MAIN.name in names else ": other regimes")
        default, command = "report.md", "exp_scripts/compare.sh"
    chosen = part(cells, *arguments.part, cost=seconds) if getattr(arguments, "part", None) else cells
    archive = arguments.results or arguments.output_dir / "results.jsonl"
    chosen = left(chosen, read_results(archive, cells))
    if arguments.action != "report" or arguments.dry_run:
        _announce(chosen, layout, every=arguments.dry_run)
    if arguments.dry_run:
        return 0
    try:
        failures = {} if arguments.action == "report" else Runner(layout).run(chosen)
    finally:  # broken off, a part keeps what it has come to
        add_results(archive, collect(cells, layout))
    document = arguments.document or arguments.output_dir / default
    missing = write_report(cells, read_results(archive, cells), document, title=title, command=command, conclusions=conclusions)
    _conclude(cells, missing, failures, document)
    return EXIT_FAILED if failures else 0


def _announce(cells: Sequence[Cell], layout: Folders, *, every: bool) -> None:
    foreseen = estimate(cells, layout)
    for text in (*(table(cells, layout) if every else ()), *foreseen.lines()):
        logger.info("%s", text)
    folder = next(path for path in (layout.folder.absolute(), *layout.folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(folder).free / 1e6
    if free < foreseen.megabytes:
        raise InputError(f"{folder} has {free:.0f} MB free, and the cells need about {foreseen.megabytes:.0f}; give another --output_dir")


def _conclude(cells: Sequence[Cell], missing: Sequence[Cell], failures: dict[str, str], document: Path) -> None:
    for name, failure in failures.items():
        logger.error("failed: %s: %s", name, failure)
    logger.info("%d of %d cells finished; report: %s", len(cells) - len(missing), len(cells), document)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    run(main)
