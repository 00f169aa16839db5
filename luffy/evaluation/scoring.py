"""From responses to verdicts: as they are generated, or from a file of them; resumable, and in bounded memory."""

from __future__ import annotations

import json
import logging
from collections import deque
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from luffy.command_line import Positive, PositiveNumber, option
from luffy.errors import InputError
from luffy.evaluation import manifest
from luffy.evaluation.report import write_summary
from luffy.evaluation.samples import Key, SampleLog, numbered_rows, read_generated, row_key
from luffy.progress import Bar
from luffy.rewards import Grader, Reason, Verdict, kind_for
from luffy.rewards.answer import after_thought, as_text, boxed_answer
from luffy.traces import opens_thought

PENDING = 1024  # responses that wait for their verdicts in memory
REMEMBERED = 4096  # comparisons whose outcome is kept: samples of one problem come near each other

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How responses are scored, as flags."""

    thought_gate: Literal["auto", "on", "off"] = option(
        "auto",
        "a response that does not close its thought (</think>) is wrong: always, never, or where its prompt opened one, as in the "
        "released script",
    )
    no_split_think: bool = option(False, "the released script's name for --thought_gate off")
    add_think_before_answer: bool = option(False, "take every response to start inside a thought")
    add_oat_evaluate: bool = option(False, "an answer outside \\boxed{} is wrong; keep the other verdict beside it")
    any_true: bool = option(False, "with --add_oat_evaluate: right is what either verdict calls right")
    workers: Positive | None = option(None, "grading processes, which change no verdict; default: one a core")
    time_limit: PositiveNumber = option(10.0, "seconds to grade one response")

    def __post_init__(self) -> None:
        if self.no_split_think:
            object.__setattr__(self, "thought_gate", "off")

    def identity(self) -> dict[str, Any]:
        """All that verdicts depend on."""
        return {name: value for name, value in asdict(self).items() if name not in ("workers", "no_split_think")}


class Scorer:
    """Scores samples into a file, in the background; use it as a context manager.

    Args:
        output: JSONL file of scored samples.
        scoring: how to score.
        overwrite: score anew what was scored in another way, or is of other samples.

    Attributes:
        done: keys (problem, sample) of the samples that are in the file.

    Raises:
        InputError: where the file cannot be written, or holds other samples or other scores and is not to be overwritten.
    """

    def __init__(self, output: Path, scoring: Scoring, *, overwrite: bool = False) -> None:
        identity = {**scoring.identity(), "samples": manifest.part_digest(output, manifest.GENERATION)}
        manifest.claim(output, manifest.SCORING, identity, results=output, overwrite=overwrite)
        self._scoring = scoring
        self._log = SampleLog(output)
        self.done = self._log.done
        self._grader = Grader(workers=scoring.workers, time_limit_s=scoring.time_limit, remembered=REMEMBERED)
        self._pending: deque[tuple[dict[str, Any], Future[Verdict]]] = deque()

    @property
    def full(self) -> bool:
        """Whether as many samples wait as may."""
        return len(self._pending) >= PENDING

    def __enter__(self) -> Scorer:
        return self

    def __exit__(self, *raised: object) -> None:
        self._grader.close()
        self._log.__exit__(*raised)

    def submit(self, row: dict[str, Any]) -> None:
        """Begin to score a generated sample."""
        verdict = self._grader.submit(
            row["response"],
            row["gold"],
            kind=kind_for(row["benchmark"]),
            thought_gate=_gate(row, self._scoring),
            truncated=row["finish_reason"] == "length",
        )
        self._pending.append((row, verdict))

    def collect(self, *, leave: int) -> int:
        """Write the samples whose verdicts are there, and wait for others until at most ``leave`` are open.

        Returns:
            How many samples were written.

        Raises:
            InputError: where the file cannot be written.
        """
        written = 0
        while self._pending and (len(self._pending) > leave or self._pending[0][1].done()):
            row, verdict = self._pending.popleft()
            self._log.append(_scored_row(row, verdict.result(), self._scoring))
            written += 1
        return written

    def finish(self) -> None:
        """Wait for all verdicts and put the file into canonical order."""
        self.collect(leave=0)
        self._log.finish()


def score(
    decoded: Path,
    scoring: Scoring,
    *,
    output: Path | None = None,
    output_eval: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Score generated samples.

    Args:
        decoded: JSONL file of generated samples, ``NAME.decoded.jsonl``.
        scoring: how to score.
        output: JSONL file of scored samples; None takes ``NAME.jsonl``.
        output_eval: JSON file of the accuracies; None writes it beside the output.
        overwrite: score anew where the output was scored in another way; the responses are never touched.

    Raises:
        InputError: where a file cannot be read or written, or the output was scored in another way.
    """
    if not decoded.is_file():
        raise InputError(f"{decoded}: no such file; give the .decoded.jsonl file that generate_vllm.py wrote")
    if output is None:
        output = decoded.with_name(decoded.name.removesuffix(".jsonl").removesuffix(".decoded") + ".jsonl")
    if output.resolve() == decoded.resolve():
        raise InputError(f"{decoded}: would be overwritten by its scores; give another --output_file")
    total = check_samples(decoded, scoring, scored=None if overwrite else output)
    manifest.copy_generation(decoded, output)
    with Scorer(output, scoring, overwrite=overwrite) as scorer:
        score_file(decoded, scorer, total=total)
    write_summary(output, output_eval)


def check_samples(decoded: Path, scoring: Scoring, *, scored: Path | None) -> int:
    """How many samples a file has, each of them whole and there once.

    Args:
        decoded: JSONL file of generated samples.
        scoring: how they are scored.
        scored: where their scores go: what is there must be of these samples; None where it is thrown away.

    Raises:
        InputError: for a line that cannot be scored, or scores of other samples.
    """
    keys: set[Key] = set()
    there = numbered_rows(scored) if scored and scored.is_file() else ()
    before = {row_key(row): _digest(row) for _, row in there}
    promptless = 0
    for number, row in numbered_rows(decoded):
        where = f"{decoded}: line {number}"
        promptless += not read_generated(row, where)["prompt"]
        if row_key(row) in keys:
            raise InputError(f"{where}: problem {row['problem']} has sample {row['sample']} twice; are it two results?")
        keys.add(row_key(row))
        if before.pop(row_key(row), None) not in (None, _digest(row)):
            before[row_key(row)] = 0
            break
    if before:
        problem, sample = next(iter(before))
        raise InputError(
            f"{scored}: holds the score of another response (problem {problem}, sample {sample}) than {decoded}; "
            "give --overwrite to score anew, or another --output_file"
        )
    if not keys:
        raise InputError(f"{decoded}: no samples in it")
    if promptless and scoring.thought_gate == "auto" and not scoring.add_think_before_answer:
        logger.warning("%d samples have no prompt, which would say whether it opens a thought: no gate for them", promptless)
    return len(keys)


def score_file(decoded: Path, scorer: Scorer, *, total: int) -> None:
    """Score the samples of a file that are not scored yet.

    Args:
        decoded: JSONL file of generated samples.
        scorer: where they go.
        total: how many the file has, for the progress bar.

    Raises:
        InputError: where a file cannot be read or written.
    """
    scorer.collect(leave=0)
    with Bar(total=total, initial=len(scorer.done), unit="sample", desc="scoring") as bar:
        for number, row in numbered_rows(decoded):
            if row_key(row) not in scorer.done:
                scorer.submit(read_generated(row, f"{decoded}: line {number}"))
                bar.update(scorer.collect(leave=PENDING))
        bar.update(scorer.collect(leave=0))
    scorer.finish()


def _digest(row: dict[str, Any]) -> int:
    return hash(json.dumps([row.get(name) for name in ("benchmark", "response", "gold")]))


def _gate(row: dict[str, Any], scoring: Scoring) -> bool:
    if scoring.thought_gate != "auto":
        return scoring.thought_gate == "on"
    return scoring.add_think_before_answer or opens_thought(row["prompt"])


def _scored_row(row: dict[str, Any], verdict: Verdict, scoring: Scoring) -> dict[str, Any]:
    both = {}
    if scoring.add_oat_evaluate:
        in_box = boxed_answer(after_thought(as_text(row["response"]))) is not None
        both = {"correct_math_verify": verdict.correct, "correct_boxed": verdict.correct and in_box}
        if not (in_box or scoring.any_true) and verdict.reason in (Reason.CORRECT, Reason.WRONG):
            verdict = Verdict(Reason.NO_ANSWER)
    scored = {name: row[name] for name in ("benchmark", "problem", "sample", "prompt", "response", "gold")}
    scored |= {"answer": verdict.answer, "correct": verdict.correct, "reason": str(verdict.reason), **both}
    return scored | {"length": row["length"], "finish_reason": row["finish_reason"]}
