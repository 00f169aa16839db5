"""The pilot's page: what was run, the rungs, the costs, the recommendation, and the command of the full run."""

from __future__ import annotations

from collections.abc import Sequence

from luffy.evaluation.estimators import Interval
from luffy.ledger import Ledger
from miniature.comparison.methods import FULL_STEPS, METHODS
from miniature.comparison.results import markdown
from miniature.pilot.advice import RULE, Advice, advise
from miniature.pilot.bootstrap import difference, interval
from miniature.pilot.climb import Climb
from miniature.pilot.ladder import Rung
from miniature.pilot.runs import HELDOUT, HELDOUT2, Runs, full_command


def report(found: Climb, runs: Runs, rungs: Sequence[Rung], seeds: Sequence[int], *, budget: float) -> str:
    """The page, as Markdown."""
    task = runs.task
    advice = advise(found.outcomes(runs, seeds), found.base[HELDOUT], found.base.get(HELDOUT2), found.earlier()) if found.rungs else None
    sections = [
        "# Which method for this model and data",
        f"Start model `{task.model}`, training data `{task.train}`, held-out problems `{task.heldout}` ({found.base[HELDOUT].shape[1]}, "
        f"{task.samples} answers each at temperature {task.temperature:g}). {_climbed(rungs, seeds, task.prompts)} "
        f"{runs.spent / 60:.0f} minutes were spent of {budget / 60:.0f}.",
        *_recommendation(advice, runs),
        "## Rungs",
        _rungs(found, rungs),
        "## Costs",
        _costs(found, runs, seeds),
        _ends(found),
        f"Rule, fixed beforehand: {RULE}",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _climbed(rungs: Sequence[Rung], seeds: Sequence[int], prompts: int) -> str:
    steps = ", ".join(f"{rung.methods} up to step {rung.step}" for rung in rungs)
    return (
        f"Methods trained: {steps}, {prompts} prompts a step, seeds {', '.join(map(str, seeds))}; each run goes on from its checkpoint. "
        f"Schedules turn at the shares of the run at which they do in {FULL_STEPS} steps."
    )


def _recommendation(advice: Advice | None, runs: Runs) -> list[str]:
    if advice is None:
        return ["## Recommendation: none, as nothing was measured to its end"]
    title = METHODS[advice.method].title if advice.method else "none yet"
    parts = [f"## Recommendation: {title}", " ".join(advice.because)]
    if advice.unless:
        parts.append("What would change it:\n\n" + "\n".join(f"* {each}" for each in advice.unless))
    if advice.method:
        parts.append(f"The full run:\n\n```\n{full_command(runs.task, METHODS[advice.method])}\n```")
    return parts


def _rungs(found: Climb, rungs: Sequence[Rung]) -> str:
    rows = [["method", "rung", "step", "held-out right", "beside the start model", "second set, beside the start model"]]
    rows.append(["start model", "", "0", _share(interval(found.base[HELDOUT])), "", ""])
    for number, results in found.rungs.items():
        for name, scores in sorted(results.items(), key=lambda each: -each[1][HELDOUT].mean()):
            change = difference(scores[HELDOUT], found.base[HELDOUT])
            second = _signed(difference(scores[HELDOUT2], found.base[HELDOUT2])) if HELDOUT2 in scores else "–"
            step = str(rungs[number - 1].step)
            rows.append([METHODS[name].title, str(number), step, _share(interval(scores[HELDOUT])), _signed(change), second])
    return markdown(rows).rstrip() + "\n\nIntervals: 95 %, bootstrap over problems and seeds."


def _costs(found: Climb, runs: Runs, seeds: Sequence[int]) -> str:
    headings = ["method", "steps", "tokens generated (1 000)", "tokens trained on (1 000)", "traces seen", "FLOPs (10^12)", "minutes"]
    rows, parameters = [headings], runs.parameters()
    for name in dict.fromkeys(name for rung in found.rungs.values() for name in rung):
        costs = sum((runs.ledger(name, seed) for seed in seeds), Ledger())
        minutes = sum(runs.seconds(name, seed) for seed in seeds) / 60
        numbers = [f"{each / 1000:.0f}" for each in (costs.generated, costs.trained)]
        operations = f"{costs.flops(parameters) / 1e12:.3g}"
        rows.append([METHODS[name].title, str(costs.steps), *numbers, f"{costs.traces:.0f}", operations, f"{minutes:.1f}"])
    return markdown(rows).rstrip() + "\n\nAll seeds together, starts included; FLOPs as luffy/ledger.py counts them."


def _ends(found: Climb) -> str:
    lines = [f"* {METHODS[name].title} failed: {why}" for name, why in found.failed.items()]
    return "\n".join([*lines, *([f"* The ladder ended early: {found.stopped}."] if found.stopped else [])])


def _share(found: Interval) -> str:
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _signed(found: Interval) -> str:
    return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
