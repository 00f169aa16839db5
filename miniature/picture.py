"""The README's picture, from runs of the embedded example: ``python -m miniature.picture RUN [RUN ...] --output FILE``.

A line a run: accuracy on the held-out problems, averaged over 8 samples each, at every validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from luffy.command_line import option, parse, run
from luffy.errors import InputError
from luffy.figures import figure, legend, line, share_axis, step_axis
from luffy.training_report import held_out_accuracy, read_metrics

MEASURE = "avg@8"
TITLES = {"luffy": "LUFFY", "on_policy": "on-policy RL"}


def draw(runs: Sequence[Path], output: Path) -> None:
    """Draw the held-out accuracy of runs over their steps.

    Raises:
        InputError: where a run has no metrics, or was not validated.
    """
    with figure(output.with_suffix(""), width=6.4, formats=("png",)) as (axis,):
        for folder in runs:
            found = [(record["step"], held_out_accuracy(record["data"])) for record in read_metrics(folder / "metrics.jsonl")]
            points = [(step, values[MEASURE]) for step, values in found if MEASURE in values]
            if not points:
                raise InputError(f"{folder} has no {MEASURE} of held-out problems; train it with trainer.test_freq")
            line(axis, *zip(*points, strict=True), label=TITLES.get(folder.name, folder.name))
        axis.set_title("The embedded example: held-out problems solved")
        step_axis(axis, "step")
        share_axis(axis, MEASURE)
        legend(axis, loc="center right")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Which runs are drawn, and where to: the flags."""

    runs: tuple[Path, ...] = option(help="run folders", positional=True)
    output: Path = option(help="the PNG file")


def main() -> None:
    """Read the command line and draw."""
    arguments = parse(Picture, description="The README's picture, from runs of the embedded example.")
    draw(arguments.runs, arguments.output)


if __name__ == "__main__":
    run(main)
