"""The report of a comparison: one Markdown page and its figures, from what the cells have come to."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from luffy.files import replacing
from miniature.comparison.cells import Cell
from miniature.comparison.methods import MAIN, METHODS, SFT_RL
from miniature.comparison.results import LEGEND, CellResult, draw, ledger_table, markdown, method_table
from miniature.comparison.statements import (
    ACCURACY_MARGIN,
    BESIDE,
    ENTROPY_MARGIN,
    HEADINGS,
    PAPER_CLAIMS,
    REGIME_CLAIMS,
    STALLED,
    STARTED,
    Outcome,
    Statement,
    against_the_bar,
    decide,
    decide_stall,
)

RULES = (
    "The rules were fixed beforehand. A claim is *as in the paper* (or *the opposite*) where the mean difference is "
    f"larger than {ACCURACY_MARGIN} ({2 * ACCURACY_MARGIN} at best points, {ENTROPY_MARGIN} nats for entropy) and has "
    "the same sign in every seed; within that margin there is *no difference*; where the seeds disagree it is *open*. A "
    f"stall is an avg@8 of at most {STALLED} beside at least {STARTED}."
)


def write_report(
    cells: Sequence[Cell], results: Sequence[CellResult], document: Path, *, title: str, command: str, conclusions: bool
) -> list[Cell]:
    """Write the report.

    Args:
        cells: all that belong to it.
        results: of those that are finished.
        document: Markdown file; its figures go to ``figures/NAME/`` beside it, NAME being the file's without suffix.
        title: its heading.
        command: what makes it again.
        conclusions: say what became of the paper's claims.

    Returns:
        The cells that are not finished; the report lists them.
    """
    done = {result.cell.name for result in results}
    missing = [cell for cell in cells if cell.name not in done]
    sections = [f"# {title}", _introduction(cells, results, command)]
    if conclusions:
        sections += _conclusions(cells, results)
    sections.append(f"## Tables and curves\n\n{LEGEND}")
    for regime in {cell.regime.name: cell.regime for cell in cells}.values():
        own = [cell for cell in cells if cell.regime.name == regime.name]
        sections += _regime(own, [result for result in results if result.cell in own], document)
    sections.append(_missing(missing))
    with replacing(document) as temporary:
        temporary.write_text("\n\n".join(section for section in sections if section) + "\n", encoding="utf-8")
    return missing


def _introduction(cells: Sequence[Cell], results: Sequence[CellResult], command: str) -> str:
    seeds = sorted({cell.seed for cell in cells})
    minutes = sum(result.seconds for result in results) / 60
    return (
        f"Every number on this page is computed from runs of the embedded example by `{command}`. All cells of a regime "
        f"start from the same base model and get the same budget of prompts; seeds {', '.join(map(str, seeds))} differ "
        f"in training, its problems and their traces. {len(results)} of {len(cells)} cells are finished; their training "
        f"took {minutes:.0f} minutes in all."
    )


def _conclusions(cells: Sequence[Cell], results: Sequence[CellResult]) -> list[str]:
    regimes = {cell.regime.name for cell in cells}
    sections = ["## What was and was not reproduced", RULES]
    if MAIN.name in regimes:
        statements = [decide_stall(results), *(decide(claim, results) for claim in PAPER_CLAIMS)]
        sections.append("\n".join(f"* {statement.sentence()}" for statement in statements))
    others = [decide(claim, results) for claim in REGIME_CLAIMS if claim.regime in regimes]
    if others:
        table = markdown([HEADINGS, *(statement.row() for statement in others)]).rstrip()
        sections += ["### Where guided RL might generalise better", _tally(others), table]
    return sections


def _tally(statements: Sequence[Statement]) -> str:
    counts = Counter(statement.outcome for statement in statements)
    counted = "; ".join(f"{outcome}: {counts[outcome]}" for outcome in Outcome if counts[outcome])
    return f"Of {len(statements)} comparisons of LUFFY (first) with another method (second): {counted}."


def _regime(cells: Sequence[Cell], results: Sequence[CellResult], document: Path) -> list[str]:
    regime = cells[0].regime
    methods = list({cell.method.name: cell.method.title for cell in cells}.items())
    folder = document.parent / "figures" / document.stem / regime.name
    pictures = draw(results, methods, folder)
    inside = Path(os.path.relpath(folder, document.parent)).as_posix()
    steps = ", ".join(str(step) for step in sorted({cell.steps for cell in cells}))
    return [
        f"### {regime.title[0].upper()}{regime.title[1:]}",
        f"Budget: {steps} steps of {regime.prompts} prompts.",
        method_table(results, methods, points=regime.points > 1).rstrip(),
        _beside_the_bar(regime.name, [name for name, _ in methods], results),
        ledger_table(results, methods).rstrip(),
        "\n".join(f"![{name.replace('_', ' ')}, {regime.title}]({inside}/{name}.png)" for name in pictures),
    ]


def _beside_the_bar(regime: str, methods: Sequence[str], results: Sequence[CellResult]) -> str:
    """Held-out avg@8 of each method less that of SFT then RL, by seed, and what the rules say of it; empty where that was not run."""
    decided = [decide(claim, results) for claim in against_the_bar(regime, methods) if claim.more in METHODS]
    known = [statement for statement in decided if statement.values]
    if not known:
        return ""
    rows = []
    for statement in known:
        more, less = statement.values.values()
        signed = ", ".join(f"{one - other:+.3f}" for one, other in zip(more, less, strict=True))
        rows.append([statement.text, signed, BESIDE.get(statement.outcome, str(statement.outcome)) + statement.caution()])
    return markdown([[f"against {METHODS[SFT_RL].title}", "avg@8, difference by seed", "verdict"], *rows]).rstrip()


def _missing(missing: Sequence[Cell]) -> str:
    if not missing:
        return ""
    return "## Not run\n\n" + "\n".join(f"* {cell.name}, {cell.steps} steps" for cell in missing)
