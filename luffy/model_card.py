"""The card of an exported model: a ``README.md`` in Hugging Face's format, with which its folder can be uploaded as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from luffy.asked_prompt import PROBLEM, without_problem
from luffy.evaluation.estimators import Interval, mean_interval
from luffy.files import replacing
from luffy.hub import is_hub_name
from luffy.models import looks_local
from luffy.record import GREEDY_ANSWER, read_facts, record_file

FILE = "README.md"
PROBLEM_OF_READER = "your problem"
_TABLE_SIGNS = re.compile(r"([|`*_<>\[\]\\])")


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """A held-out accuracy.

    Attributes:
        name: ``avg@8`` or ``greedy``, as :func:`luffy.training_report.held_out_accuracy` calls it.
        before: at the start of the run; None where it was not measured.
        value: of this model.
        interval: 95 % over problems; None where the answers were not recorded.
        problems: their number; None where it is not known.
    """

    name: str
    before: float | None
    value: float
    interval: Interval | None = None
    problems: int | None = None


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a card says.

    Attributes:
        name: of the model.
        base_model: a name of the Hub, or a folder, of which the card shows the last part alone.
        method: title of the method.
        paper: where it is from.
        data_sets: names on the Hub of what the training data were made from.
        steps: of the training, at this model.
        measured_at: step of the results.
        results: held-out accuracies; empty where there are none.
        validation: file of the held-out problems, shown by its last part; empty where there is none.
        messages: a chat of the training set.
        max_tokens: of a response.
        temperature, top_p: with which held-out problems are answered.
        settings: those of the training that a reader looks for.
        seconds: how long the training took.
    """

    name: str
    base_model: str
    method: str
    paper: str
    data_sets: Sequence[str]
    steps: int
    measured_at: int
    results: Sequence[HeldOut]
    validation: str
    messages: Sequence[Mapping[str, str]]
    max_tokens: int
    temperature: float
    top_p: float
    settings: Mapping[str, Any]
    seconds: float


def held_out_scores(folder: Path, step: int) -> dict[str, list[float]]:
    """The score of each held-out problem at a step, from its record in a run's folder: by ``avg@N`` and ``greedy``; empty without one."""
    file = record_file(folder, step, held_out=True)
    if not file.is_file():
        return {}
    found: dict[str, list[float]] = {}
    for group in read_facts(file):
        for greedy in (False, True):
            rewards = [row["reward"] for row in group if (row["source"] == GREEDY_ANSWER) == greedy]
            if rewards:
                found.setdefault("greedy" if greedy else f"avg@{len(rewards)}", []).append(sum(rewards) / len(rewards))
    return found


def held_out_results(scores: Mapping[str, Sequence[float]], after: Mapping[str, float], before: Mapping[str, float]) -> list[HeldOut]:
    """The held-out accuracies of a step, with intervals where the scores of single problems agree with them.

    Args:
        scores: of each problem, by the accuracies' names.
        after: accuracies of that step, by name.
        before: those of the start.
    """
    found = []
    for name, value in after.items():
        of_problems = scores.get(name, [])
        same = (
            bool(of_problems) and abs(sum(of_problems) / len(of_problems) - value) < 1e-6 and 0 <= min(of_problems) <= max(of_problems) <= 1
        )
        interval, problems = (mean_interval(of_problems), len(of_problems)) if same else (None, None)
        found.append(HeldOut(name=name, before=before.get(name), value=value, interval=interval, problems=problems))
    return found


def write_card(folder: Path, facts: CardFacts) -> Path:
    """Write the card of the model in ``folder``; returns its file."""
    with replacing(folder / FILE) as temporary:
        temporary.write_text(card(facts), encoding="utf-8")
    return folder / FILE


def card(facts: CardFacts) -> str:
    """The text of a card."""
    import jinja2

    template = resources.files("luffy").joinpath("model_card.jinja").read_text(encoding="utf-8")
    return jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=False, keep_trailing_newline=True).from_string(template).render(
        metadata=_metadata(facts),
        name=_cell(facts.name),
        base_model=_cell(_public(facts.base_model)),
        method=_cell(facts.method),
        paper="" if facts.paper == "own" else _cell(facts.paper),
        steps=facts.steps,
        measured_at=facts.measured_at,
        results=facts.results,
        validation=_cell(_last(facts.validation)),
        repository=f"OWNER/{re.sub(r'[^A-Za-z0-9._-]+', '-', facts.name)}",
        messages=_chat(facts.messages),
        max_tokens=facts.max_tokens,
        temperature=facts.temperature,
        top_p=facts.top_p,
        settings={key: _cell(str(value)) for key, value in facts.settings.items()},
        seconds=f"Trained in {facts.seconds:.0f} seconds.",
    )  # fmt: skip


def _metadata(facts: CardFacts) -> str:
    """The card's YAML; names that are no names of the Hub are left out of its links."""
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type="held-out",
            dataset_name=_last(facts.validation) or "held-out problems",
            metric_type="accuracy",
            metric_name=each.name,
            metric_value=round(each.value, 4),
        )
        for each in facts.results
    ]
    data = ModelCardData(
        base_model=facts.base_model if is_hub_name(facts.base_model) and not looks_local(facts.base_model) else None,
        datasets=list(facts.data_sets) or None,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["luffy", "reinforcement-learning", "off-policy-guidance", "verl"],
        model_name=facts.name if results else None,
        eval_results=results or None,
    )
    return data.to_yaml().rstrip("\n") + "\n"


def _public(name: str) -> str:
    """A name of the Hub as it is; of a path its last part, which tells nobody about a machine."""
    return name if is_hub_name(name) and not looks_local(name) else _last(name)


def _last(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]


def _cell(text: str) -> str:
    """A text in one line, whose signs mean nothing in Markdown."""
    return _TABLE_SIGNS.sub(r"\\\1", " ".join(text.split()))


def _chat(messages: Sequence[Mapping[str, str]]) -> str:
    """The chat as Python, with a mark where the problem goes."""
    chat = json.loads(json.dumps(without_problem(messages) or [{"role": "user", "content": PROBLEM}]))
    for message in chat:
        message["content"] = message["content"].replace(PROBLEM, PROBLEM_OF_READER)
    return json.dumps(chat, ensure_ascii=True)
