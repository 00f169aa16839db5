"""One look for all figures, written as PNG and SVG without a display."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE = {
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "font.size": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.3,
    "legend.framealpha": 0.8,
    "legend.fontsize": 8,
    "text.parse_math": False,  # names of models are text, whatever signs they have
    "svg.hashsalt": "luffy",  # the same figure gives the same file
}
PANEL = (4.8, 3.4)  # inches of one panel
MOST_INSIDE = 6  # lines that a legend inside of the axes names
LEGEND_INCHES = 2.2  # width of one beside them
FEW = 12  # points of a line that is drawn with marks


@contextmanager
def figure(
    path: str | Path, *, panels: int = 1, columns: int | None = None, width: float = PANEL[0], formats: Sequence[str] = ("png", "svg")
) -> Iterator[list[Axes]]:
    """Draw a figure and save it.

    Args:
        path: where to save it, without a suffix.
        panels: axes.
        columns: how many of them stand side by side; None: all.
        width: of one of them, in inches.
        formats: suffixes of the files that are written.

    Yields:
        The axes, row by row.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with pyplot.rc_context(STYLE):
        beside = min(columns or panels, panels)
        rows = math.ceil(panels / beside)
        drawing, axes = pyplot.subplots(rows, beside, figsize=(width * beside, PANEL[1] * rows), layout="constrained", squeeze=False)
        for unused in axes.flat[panels:]:
            unused.set_axis_off()
        try:
            yield list(axes.flat[:panels])
            _save(drawing, Path(path), formats)
        finally:
            pyplot.close(drawing)


def line(axis: Axes, xs: Sequence[float], ys: Sequence[float], **options: Any) -> None:
    """A line whose points are marked where they are few; a later one does not hide an earlier one at the same points."""
    before = len(axis.lines)
    marks: dict[str, Any] = {"marker": "o" if len(xs) < FEW else None, "markersize": 4}
    if 0 < before < 4 and len(xs) < FEW:
        marks |= {"markersize": 4 + 3 * before, "fillstyle": "none"}
    axis.plot(xs, ys, linestyle=("-", "--", ":", "-.")[before] if before < 4 else "-", clip_on=False, zorder=3, **marks, **options)


def step_axis(axis: Axes, label: str = "step") -> None:
    """A horizontal axis of training steps: whole numbers, and a single one stands in its middle."""
    from matplotlib.ticker import MaxNLocator

    axis.set_xlabel(label)
    _widen(axis.set_xlim, axis.dataLim.intervalx, 0.5)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))


def share_axis(axis: Axes, label: str, *, most: float = 1.0) -> None:
    """A vertical axis of shares, from 0 to ``most`` whatever the data, so that a line at either border is seen whole."""
    axis.set_ylabel(label)
    axis.set_ylim(0, most)


def value_axis(axis: Axes, label: str) -> None:
    """A vertical axis of values that are never below 0; it begins there, and a constant is no noise."""
    low, high = axis.dataLim.intervaly
    axis.set_ylabel(label)
    if low >= 0:
        axis.set_ylim(0, 1.05 * high if high > 0 else 1.0)
    else:
        _widen(axis.set_ylim, (low, high), max(1.0, abs(low)))


def _widen(set_limits: Any, interval: Sequence[float], least: float) -> None:
    """Limits around data that have no width of their own."""
    low, high = interval
    if low == high:
        set_limits(low - least, high + least)


def legend(axis: Axes, **options: Any) -> None:
    """A legend, where anything has a label; a long one stands beside the axes, which keep their size."""
    count, drawing = len(axis.get_legend_handles_labels()[0]), axis.get_figure(root=True)
    if count > MOST_INSIDE and not options and drawing is not None:
        drawing.set_figwidth(drawing.get_figwidth() + LEGEND_INCHES)
        options = {"loc": "upper left", "bbox_to_anchor": (1.02, 1.0)}
    if count:
        axis.legend(**options)


def _save(drawing: Figure, path: Path, formats: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for suffix in formats:
        metadata = {"Software": None} if suffix == "png" else {"Date": None}  # the same figure gives the same file
        drawing.savefig(path.with_name(f"{path.name}.{suffix}"), metadata=metadata)
