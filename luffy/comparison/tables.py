"""Tables of the comparison in Markdown: mean and spread over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from luffy.comparison.collect import CellResult

Column = tuple[str, Callable[[CellResult], float], str]  # heading, value, format of a number

COLUMNS: tuple[Column, ...] = (
    ("avg@8", lambda result: result.measured.avg8, ".3f"),
    ("greedy", lambda result: result.measured.greedy, ".3f"),
    ("pass@8", lambda result: result.measured.pass8, ".3f"),
    ("harder avg@8", lambda result: result.measured.harder_avg8, ".3f"),
    ("best point", lambda result: result.best, ".3f"),
    ("last point", lambda result: result.last, ".3f"),
    ("entropy", lambda result: result.measured.entropy, ".3f"),
    ("length", lambda result: result.measured.response_length, ".1f"),
    ("tokens generated (1 000)", lambda result: result.tokens / 1000, ".0f"),
    ("seconds", lambda result: result.seconds, ".0f"),
    ("memory (GiB)", lambda result: result.peak_memory_bytes / 2**30, ".1f"),
)
LEGEND = (
    "Mean ± sample standard deviation over the seeds. *avg@8*, *pass@8*: 256 held-out problems, 8 samples each at "
    "temperature 1, asked of the last model. *greedy*: the same problems, decoded greedily. *harder*: 256 problems one "
    "digit longer than any that was trained on. *best point*, *last point*: avg@8 on 64 of the held-out problems "
    "during training, so the best is chosen on what it is measured with. *entropy*: nats a token of the last model's held-out "
    "answers. *tokens generated*: by the policy, for training. *seconds*: training with start-up and looks at held-out "
    "problems; *SFT then RL* includes its share of SFT. *memory*: most at one time, all processes together."
)
MISSING = "–"
POINTS = ("best point", "last point")  # columns of regimes whose runs look at held-out problems on the way


def method_table(results: Sequence[CellResult], methods: Sequence[tuple[str, str]], *, points: bool) -> str:
    """One row a method.

    Args:
        results: of one regime.
        methods: names and titles, in order; one without results gets a row of dashes.
        points: with the columns of :data:`POINTS`.
    """
    columns = [column for column in COLUMNS if points or column[0] not in POINTS]
    rows = [["method", "seeds", *(heading for heading, _, _ in columns)]]
    for name, title in methods:
        own = [result for result in results if result.cell.method.name == name]
        cells = [spread([value(result) for result in own], form) for _, value, form in columns]
        rows.append([title, str(len(own)), *cells])
    return markdown(rows)


def spread(values: Sequence[float], form: str) -> str:
    """Mean ± sample standard deviation; the value alone where there is one, a dash where there is none."""
    if not values:
        return MISSING
    mean = format(statistics.fmean(values), form)
    return mean if len(values) == 1 else f"{mean} ± {format(statistics.stdev(values), form)}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose first row is the heading."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]) + "\n"
