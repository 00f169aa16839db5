"""What became of every answer of every teacher: Markdown, JSON, and histograms of the lengths."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luffy.figures import figure
from luffy.files import replacing, write_json
from luffy.teachers.answers import MEANINGS, Given
from luffy.teachers.probabilities import END_TAKEN_AS_1, KNOWN

_BINS = 40
_MARKS = str.maketrans({sign: f"\\{sign}" for sign in "\\`*_{}[]()<>#|!~&"})


@dataclass(kw_only=True)
class Tally:
    """One teacher's answers, or the policy's.

    Attributes:
        teacher: its name.
        asked: how many samples were to be asked for.
        outcomes: answers by what became of them (:data:`luffy.teachers.answers.MEANINGS`); they add up to all that came.
        problems, solved: problems with an answer, and those with a right one.
        prompt_tokens, tokens: of prompts and answers.
        estimated: answers whose tokens the teacher did not count.
        lost_tokens: of answers that were cut off and asked again, in this run.
        unanswered: requests that were given up, by reason, in this run; the same command asks them again.
        cost: of all tokens, in the prices' currency; None without prices.
        kept: traces of the output.
        probabilities: answers by whether the probabilities of their tokens are known, or why not.
        left_out: fields of requests that the server did not accept.
        lengths: tokens of each answer.
    """

    teacher: str
    asked: int
    outcomes: Counter[str] = field(default_factory=Counter)
    problems: int = 0
    solved: int = 0
    prompt_tokens: int = 0
    tokens: int = 0
    estimated: int = 0
    lost_tokens: int = 0
    unanswered: dict[str, int] = field(default_factory=dict)
    cost: float | None = None
    kept: int = 0
    probabilities: Counter[str] = field(default_factory=Counter)
    left_out: list[str] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)

    def count(self, answers: Sequence[Given]) -> None:
        """Take in the answers to one problem."""
        self.problems += bool(answers)
        self.solved += any(each.correct for each in answers)
        for each in answers:
            self.outcomes[each.outcome] += 1
            self.prompt_tokens += each.prompt_tokens
            self.tokens += each.length
            self.estimated += not each.counted
            self.probabilities[each.probabilities.how] += 1
            self.lengths.append(each.length)

    @property
    def answers(self) -> int:
        """How many answers there are."""
        return sum(self.outcomes.values())


@dataclass(frozen=True, kw_only=True)
class CollectionReport:
    """A whole collection.

    Attributes:
        problems: those that were read.
        left_out: rows of the sources that are no problem of their own, by name.
        skipped: problems that no teacher was asked, as the policy solves them.
        rows, traces: of the output.
        policy: the policy's own answers; None where it was not asked.
        teachers: in the command's order.
        stopped: whether the budget left something unasked.
        verified: whether answers were verified.
    """

    problems: int
    left_out: dict[str, int]
    skipped: int
    rows: int
    traces: int
    policy: Tally | None
    teachers: list[Tally]
    stopped: bool
    verified: bool


def write_report(report: CollectionReport, folder: Path) -> None:
    """Write ``report.json``, ``report.md`` and ``lengths.png``."""
    write_json(folder / "report.json", _as_json(report))
    with replacing(folder / "report.md") as path:
        path.write_text(format_report(report) + "\n", encoding="utf-8")
    _draw(report, folder / "lengths")


def format_report(report: CollectionReport) -> str:
    """The report as Markdown; what teachers are called is text in it, whatever its signs are."""
    lines = [
        "# Traces",
        "",
        f"{report.problems} problems; {report.skipped} skipped, which the policy solves; {report.rows} rows with {report.traces} traces.",
    ]
    if not report.verified:
        lines += ["", "**No answer was verified (--no-verify): wrong traces are among these.**"]
    if report.stopped:
        lines += ["", "**The budget ended before all was asked; with a larger one the same command goes on.**"]
    lines += [f"Left out of the problems: {name} {count}." for name, count in report.left_out.items()]
    for title, tallies in (("The policy", [report.policy] if report.policy else []), ("Teachers", report.teachers)):
        if tallies:
            lines += ["", f"## {title}", "", *_table(tallies), "", *_outcomes(tallies), "", *_notes(tallies)]
    return "\n".join(lines)


def _table(tallies: Sequence[Tally]) -> list[str]:
    head = ("name", "answers", "right", "problems solved", "prompt tokens", "answer tokens", "median length", "cost", "traces kept")
    rows = [
        (
            _plain(each.teacher),
            f"{each.answers} of {each.asked}",
            _share(sum(each.outcomes[name] for name in ("right",)), each.answers),
            f"{each.solved} of {each.problems} ({_share(each.solved, each.problems)})",
            str(each.prompt_tokens),
            str(each.tokens),
            f"{statistics.median(each.lengths):g}" if each.lengths else "-",
            "-" if each.cost is None else f"{each.cost:.4g}",
            str(each.kept),
        )
        for each in tallies
    ]
    return _rows(head, rows)


def _outcomes(tallies: Sequence[Tally]) -> list[str]:
    seen = [name for name in MEANINGS if any(each.outcomes[name] for each in tallies)]
    head = ("what became of answers", *(_plain(each.teacher) for each in tallies), "meaning")
    return _rows(head, [(name.replace("_", " "), *(str(each.outcomes[name]) for each in tallies), MEANINGS[name]) for name in seen])


def _notes(tallies: Sequence[Tally]) -> list[str]:
    lines = []
    for each in tallies:
        name = _plain(each.teacher)
        known, other = each.probabilities[KNOWN] + each.probabilities[END_TAKEN_AS_1], each.probabilities.most_common()
        why = "; ".join(f"{how}: {count}" for how, count in other if how != KNOWN)
        lines.append(f"* {name}: token probabilities of {known} answers are known" + (f" ({why})" if why else ""))
        if each.estimated:
            lines.append(f"* {name}: counted no tokens of {each.estimated} answers; estimated from their bytes")
        if each.lost_tokens:
            lines.append(f"* {name}: {each.lost_tokens} tokens of answers that were cut off and asked again")
        if each.left_out:
            lines.append(f"* {name}: does not accept {', '.join(each.left_out)}, which was left out")
        lines += [
            f"* {name}: {count} requests given up, which the same command asks again: {_plain(why)}"
            for why, count in each.unanswered.items()
        ]
    return lines


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.3f}" if whole else "-"


def _plain(text: str) -> str:
    return text.translate(_MARKS)


def _as_json(report: CollectionReport) -> dict[str, Any]:
    return vars(report) | {"policy": report.policy and _tally(report.policy), "teachers": [_tally(each) for each in report.teachers]}


def _tally(tally: Tally) -> dict[str, Any]:
    """A tally with a histogram of its lengths: tokens at the borders of the bins, and the answers in each."""
    import numpy as np

    numbers, edges = np.histogram(tally.lengths or [0], bins=_BINS)
    counts = numbers.tolist() if tally.lengths else [0] * _BINS
    return vars(tally) | {"answers": tally.answers, "lengths": {"edges": edges.tolist(), "counts": counts}}


def _draw(report: CollectionReport, path: Path) -> None:
    with figure(path, formats=("png",)) as (axes,):
        axes.set(title="answers of the teachers", xlabel="tokens", ylabel="answers")
        for each in report.teachers:
            if each.lengths:
                axes.hist(each.lengths, bins=_BINS, histtype="step", label=each.teacher[:40])
        if any(each.lengths for each in report.teachers):
            axes.legend()
