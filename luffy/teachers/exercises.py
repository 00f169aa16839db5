"""The problems that teachers are asked, from any file, folder or hub set that ``data/prepare_train.py`` reads."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from luffy.data.faults import CONFLICTING_ANSWER, DUPLICATE_PROMPT, MALFORMED
from luffy.data.schema import Example
from luffy.data.source import SourceSpec, open_source
from luffy.data.system_prompt import SystemRewriter, system_rewriter
from luffy.data.text import prompt_key
from luffy.digests import text_digest
from luffy.errors import InputError
from luffy.evaluation.prompts import Problem

NO_ANSWER, EMPTY_PROMPT = "no_answer", "empty_prompt"
_ROWS_AT_ONCE = 1024

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Exercise(Problem):
    """A problem that teachers are asked, with the kind of task that the training file says; ``gold`` is "" where none is needed."""

    ability: str


@dataclass(frozen=True, kw_only=True)
class Exercises:
    """The problems of a set.

    Attributes:
        problems: in the order of the files; ``index`` is the place in it.
        left_out: rows that are no problem of their own, by name of :mod:`luffy.data.faults`.
    """

    problems: list[Exercise]
    left_out: Counter[str] = field(default_factory=Counter)

    def digest(self) -> str:
        """16 hexadecimal digits of all that teachers are asked, and of the gold answers."""
        return text_digest("".join(problem.key for problem in self.problems))


def read_exercises(
    specs: Sequence[SourceSpec], *, system: str, needs_gold: bool, drop_malformed: bool = False, limit: int | None = None
) -> Exercises:
    """Read the problems of some sources; of rows with the same problem the first counts.

    Args:
        specs: the sources.
        system: as ``--system-prompt`` says (:func:`luffy.data.system_prompt.system_rewriter`).
        needs_gold: leave out problems without a gold answer.
        drop_malformed: leave out rows that cannot be read, instead of refusing them.
        limit: of the problems; None takes all.

    Raises:
        InputError: where a source cannot be read, or nothing is left.
    """
    rewrite, left_out = system_rewriter(system), Counter[str]()
    problems: list[Exercise] = []
    known: dict[bytes, str] = {}
    for example in _examples(specs, rewrite, needs_gold):
        reason = _reason(example, known, needs_gold)
        if reason == MALFORMED and not drop_malformed:
            raise InputError(f"{example} (--drop-malformed leaves such rows out)")
        if reason is not None:
            left_out[reason] += 1
            continue
        assert isinstance(example, Example)
        known[prompt_key(example.question)] = example.gold
        problems.append(_exercise(len(problems), example))
        if len(problems) == limit:
            break
    if not problems:
        why = ", ".join(f"{name} {count}" for name, count in left_out.items()) or "no rows"
        advice = "; name the column of gold answers (--answer-column), or give --no-verify" if left_out[NO_ANSWER] else ""
        raise InputError(f"{', '.join(spec.location for spec in specs)}: no problem is left ({why}){advice}")
    if left_out:
        logger.warning("left out of the problems: %s", ", ".join(f"{name} {count}" for name, count in left_out.items()))
    return Exercises(problems=problems, left_out=left_out)


def _examples(specs: Sequence[SourceSpec], rewrite: SystemRewriter, needs_gold: bool) -> Iterator[Example | InputError]:
    for spec in specs:
        source = open_source(spec, system=rewrite, traces=False, answers=needs_gold)
        for file in source.files:
            for batch in source.batches(file, _ROWS_AT_ONCE):
                yield from (example for _, example in source.examples(file, batch))


def _reason(example: Example | InputError, known: dict[bytes, str], needs_gold: bool) -> str | None:
    """Why a row is no problem of its own."""
    if isinstance(example, InputError):
        return MALFORMED
    if not example.question.strip():
        return EMPTY_PROMPT
    if needs_gold and not example.gold:
        return NO_ANSWER
    first = known.get(prompt_key(example.question))
    return None if first is None else DUPLICATE_PROMPT if first == example.gold else CONFLICTING_ANSWER


def _exercise(index: int, example: Example) -> Exercise:
    return Exercise(
        index=index,
        key=text_digest(json.dumps([example.data_source, example.prompt, example.gold])),
        benchmark=example.data_source,
        messages=example.prompt,
        gold=example.gold,
        repeats=1,
        of=0,
        ability=example.ability,
    )
