"""Tasks of ``reasoning-gym``: an answer is found in a response, and the library's own scorer of the task says how right it is.

A gold answer here names a problem and says its answer: ``chain_sum?index=5&seed=0&size=100#439``. From the first part the problem is made
anew, with all that its scorer looks at; what follows ``#`` is for people. The scorer runs in the verifier's worker processes, as many of
them hand an answer to ``eval``: there that is refused.

Nothing of the library is imported before :func:`prepare`.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, quote_plus, unquote_plus, urlencode

from luffy.rewards.answer import boxed_answer

KIND = "gym"
PACKAGE = "reasoning-gym"
SYSTEM = (
    "Solve the problem in two parts. First think it through between <think> and </think>: break it down, try ideas, check each step, and go "
    "back where a check fails. Then give the final answer, and nothing else, between <answer> and </answer>."
)
ANSWER_CHARS = 20_000
_TAGS = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_REFERENCE = re.compile(r"(?P<task>[A-Za-z0-9_]+)\?(?P<settings>[^#]*)(?:#(?P<answer>.*))?", re.DOTALL)


def reference(task: str, index: int, settings: dict[str, Any], answer: str | None) -> str:
    """The gold answer of a problem.

    Args:
        task: name of the data set in the library.
        index: of the problem in it.
        settings: of the data set: ``seed``, ``size`` and what else its configuration takes, as JSON values.
        answer: for people; None where the task has many.
    """
    words = {name: json.dumps(value) for name, value in sorted({**settings, "index": index}.items())}
    return f"{task}?{urlencode(words)}#{quote_plus(answer or '', safe=',.;:-*/=()[]<>')}"


def read_reference(gold: str) -> tuple[str, int, dict[str, Any]]:
    """Task, index and settings of a gold answer.

    Raises:
        ValueError: where it is none of :func:`reference`.
    """
    found = _REFERENCE.fullmatch(gold)
    settings = {name: json.loads(value) for name, value in parse_qsl(found["settings"])} if found else {}
    index = settings.pop("index", None)
    if found is None or type(index) is not int:
        raise ValueError(f"no problem of {PACKAGE}: {gold[:60]!r}")
    return found["task"], index, settings


def shown_answer(gold: str) -> str:
    """What a gold answer says for people."""
    found = _REFERENCE.fullmatch(gold)
    return unquote_plus(found["answer"] or "") if found else gold


def read(text: str) -> str | None:
    """The answer in what follows the thought: between the last ``<answer>`` tags, else in the last box, else None."""
    tagged = _TAGS.findall(text)
    answer = tagged[-1].strip() if tagged else boxed_answer(text)
    return answer[:ANSWER_CHARS] if answer else None


def prepare() -> None:
    """Import the library, whose scorers then read arithmetic without ``eval``; in a process that answers do not share."""
    import sympy
    import sympy.parsing

    from luffy.rewards.mends import mend_libraries, read_arithmetic

    mend_libraries()  # first: the library's modules take parse_expr from there
    sympy.parse_expr = sympy.parsing.parse_expr = read_arithmetic
    import reasoning_gym  # noqa: F401


def score(answer: str, gold: str) -> float:
    """How right an answer is, in [0, 1], by the library's scorer of the task.

    Raises:
        ValueError: where the gold answer names no problem.
        Exception: whatever the scorer raises on the answer.
    """
    task, index, settings = read_reference(gold)
    data = _data(task, json.dumps(settings, sort_keys=True))
    return float(data.score_answer(answer, {"answer": shown_answer(gold)} if _by_answer_alone(data) else data[index]))


def _by_answer_alone(data: Any) -> bool:
    """Whether a task has the library's common scorer, which looks at nothing but the answer: the problem need not be made anew."""
    from reasoning_gym.dataset import ProceduralDataset

    return type(data).score_answer is ProceduralDataset.score_answer


@lru_cache(maxsize=64)
def _data(task: str, settings: str) -> Any:
    import reasoning_gym

    return reasoning_gym.create_dataset(task, **json.loads(settings))
