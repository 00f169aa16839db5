"""The answers of one teacher on disk: asked once, verified once, and each of them with one name for what became of it.

``NAME.decoded.jsonl`` holds the answers as they came, ``NAME.jsonl`` their verdicts, ``NAME.manifest.json`` what they depend on: the
files of an evaluation (:mod:`luffy.evaluation.samples`), which its commands read as well. A line is written as soon as its answer is
there, so that whatever kills the run, nothing that was answered is asked again.
"""

from __future__ import annotations

import itertools
import logging
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luffy.digests import text_digest
from luffy.errors import InputError
from luffy.evaluation import manifest
from luffy.evaluation.samples import CUT_OFF, Key, SampleLog, read_rows
from luffy.evaluation.scoring import Scorer, Scoring, score_file
from luffy.teachers.exercises import Exercise
from luffy.teachers.probabilities import Probabilities
from luffy.teachers.wire import DECLINED, TOO_LARGE, Answer
from luffy.traces import THINK_CLOSE, THINK_OPEN, think_tag_fault

RIGHT, UNVERIFIED, TRUNCATED, EMPTY, REFUSAL = "right", "not verified", "truncated", "empty", "refusal"
PROMPT_TOO_LONG = "prompt_too_long"
MEANINGS = {
    RIGHT: "the verifier calls the answer right",
    UNVERIFIED: "the verifier was not asked (--no-verify)",
    TRUNCATED: "cut off at --max-tokens",
    EMPTY: "no text",
    REFUSAL: "the teacher refuses, by its own mark or its first words",
    DECLINED: "the server takes this request for a bad one, such as a prompt that is too long",
    TOO_LARGE: "more than --max-tokens can be",
    PROMPT_TOO_LONG: "the prompt leaves no room for an answer",
    "think_tags_missing": "<think> or </think> is missing, or they are in the wrong order; --no-think-tags accepts it",
    "think_tags_doubled": "a think tag appears more than once",
    "wrong": "the verifier calls the answer wrong",
    "no answer found": "the verifier finds no answer",
    "timed out": "the verifier gave it up",
    "gold answer not readable": "the verifier cannot read the gold answer",
    "error": "the verifier failed on it",
}
"""Of each name for what became of an answer, in the order of reports; an answer has one of them."""
SYNC_EVERY_S = 2.0
BYTES_A_TOKEN = 4  # where the server counts none
logger = logging.getLogger(__name__)
_REFUSES = re.compile(
    r"(?:I['’]?m (?:very )?sorry\b|Sorry, |I (?:cannot|can['’]t|am unable to|am not able to|won['’]t) |As an AI\b)", re.IGNORECASE
)


@dataclass(frozen=True, kw_only=True)
class Given:
    """An answer as it is read back.

    Attributes:
        key: problem and sample.
        text: the answer, as a trace would have it.
        outcome: a name of :data:`MEANINGS`.
        correct: whether the verifier calls it right, cut off or not, and its thought is closed where it has to be.
        length, prompt_tokens: tokens.
        counted: whether the teacher counted them; else they are estimated.
        probabilities: of its tokens, or why there are none.
    """

    key: Key
    text: str
    outcome: str
    correct: bool
    length: int
    prompt_tokens: int
    counted: bool
    probabilities: Probabilities


class AnswerLog:
    """The answers of one teacher; a context manager.

    Args:
        folder: of all answers of a collection.
        name: of the teacher.
        identity: all that its answers depend on.
        problems: what it is asked.
        overwrite: throw away answers of another run.

    Attributes:
        path: of the verdicts.
        tokens: of the prompts and of the answers that are there.

    Raises:
        InputError: where the answers that are there are of another run, or another run is writing them.
    """

    def __init__(self, folder: Path, name: str, identity: dict[str, Any], problems: Sequence[Exercise], *, overwrite: bool) -> None:
        self.path = folder / f"{re.sub(r'[^A-Za-z0-9.-]+', '_', name)[:60]}-{text_digest(name)[:6]}.jsonl"
        self._decoded, self._problems = manifest.decoded_path(self.path), problems
        manifest.claim(self.path, manifest.GENERATION, identity, results=self._decoded, overwrite=overwrite)
        if overwrite:
            self.path.unlink(missing_ok=True)
        self._log = SampleLog(self._decoded)
        self._synced = time.monotonic()
        there = [(row["prompt_tokens"], row["length"]) for row in read_rows(self._decoded)]
        self.tokens = [sum(each) for each in zip(*there, strict=True)] or [0, 0]

    def __enter__(self) -> AnswerLog:
        return self

    def __exit__(self, *raised: object) -> None:
        self._log.__exit__(*raised)

    def missing(self, asked: Iterable[int], samples: int) -> list[Key]:
        """The samples of some problems that are not there."""
        return [(problem, sample) for problem in asked for sample in range(samples) if (problem, sample) not in self._log.done]

    def add(self, key: Key, answer: Answer, probabilities: Probabilities, *, prompt: str = "") -> None:
        """Write an answer down; ``prompt`` is the rendered one where it is known."""
        problem = self._problems[key[0]]
        prompt_tokens, length = counts(problem, answer)
        self._log.append(
            {
                "benchmark": problem.benchmark,
                "problem": key[0],
                "sample": key[1],
                "prompt": prompt,
                "response": answer.text,
                "gold": problem.gold,
                "length": length,
                "finish_reason": answer.finish_reason,
                "prompt_tokens": prompt_tokens,
                "counted": answer.length is not None and answer.prompt_tokens is not None,
                "refusal": answer.refusal,
                "how": probabilities.how,
                "probabilities": probabilities.values,
            }
        )
        self.tokens[0] += prompt_tokens
        self.tokens[1] += length
        if time.monotonic() - self._synced > SYNC_EVERY_S:
            self._log.sync()
            self._synced = time.monotonic()

    def finish(self, scoring: Scoring | None) -> None:
        """Put the answers into canonical order, and verify those that are not; None verifies nothing."""
        self._log.sync()
        self._log.finish()
        if scoring is not None and self._log.done:
            with self._scorer(scoring) as scorer:
                score_file(self._decoded, scorer, total=len(self._log.done))

    def _scorer(self, scoring: Scoring) -> Scorer:
        try:
            return Scorer(self.path, scoring, overwrite=False)
        except InputError as error:  # verdicts of another --time-limit, which cost little; the answers stay
            logger.info("%s: all is verified again", error)
            return Scorer(self.path, scoring, overwrite=True)

    def by_problem(self, samples: int, *, verified: bool, think_tags: bool) -> Iterator[tuple[int, list[Given]]]:
        """The first samples of each problem that has any, in order; call :meth:`finish` before.

        Args:
            samples: of a problem.
            verified: whether there are verdicts.
            think_tags: whether an answer must open and close a thought.
        """
        verdicts: Iterable[dict[str, Any]] = read_rows(self.path) if verified and self._log.done else itertools.repeat({})
        pairs = zip(read_rows(self._decoded), verdicts, strict=False)
        for problem, rows in itertools.groupby(pairs, key=lambda pair: pair[0]["problem"]):
            yield problem, [_given(row, verdict, think_tags) for row, verdict in rows if row["sample"] < samples]


def counts(problem: Exercise, answer: Answer) -> tuple[int, int]:
    """Tokens of prompt and answer, estimated where the teacher counts none."""
    asked = sum(len(message["content"].encode("utf-8", "replace")) for message in problem.messages)
    prompt = -(-asked // BYTES_A_TOKEN) if answer.prompt_tokens is None else answer.prompt_tokens
    return prompt, -(-len(answer.text.encode()) // BYTES_A_TOKEN) if answer.length is None else answer.length


def whole_thought(text: str) -> str:
    """An answer with the opening tag of its thought, which a prompt that ends with it keeps out of the answer."""
    return f"{THINK_OPEN}\n{text.lstrip()}" if THINK_CLOSE in text and THINK_OPEN not in text else text


def _given(row: dict[str, Any], verdict: dict[str, Any], think_tags: bool) -> Given:
    assert not verdict or (row["problem"], row["sample"]) == (verdict["problem"], verdict["sample"])
    fault = think_tag_fault(row["response"]) if think_tags else None
    values = row["probabilities"]
    return Given(
        key=(row["problem"], row["sample"]),
        text=row["response"],
        outcome=_outcome(row, verdict, fault),
        correct=bool(verdict.get("correct")) and fault is None,
        length=row["length"],
        prompt_tokens=row["prompt_tokens"],
        counted=row["counted"],
        probabilities=Probabilities(row["how"], None if values is None else tuple(values)),
    )


def _outcome(row: dict[str, Any], verdict: dict[str, Any], fault: str | None) -> str:
    if row["finish_reason"] in (DECLINED, TOO_LARGE, PROMPT_TOO_LONG):
        return row["finish_reason"]
    if row["finish_reason"] == CUT_OFF:
        return TRUNCATED
    if row["refusal"] or (not verdict.get("correct") and _REFUSES.match(row["response"].lstrip())):
        return REFUSAL
    if not row["response"].strip():
        return EMPTY
    if fault is not None:
        return fault
    return UNVERIFIED if not verdict else RIGHT if verdict["correct"] else verdict["reason"]
