"""Verdicts on many responses: a pool of worker processes, and each comparison made once."""

from __future__ import annotations

import atexit
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from functools import cache

from luffy.errors import InputError
from luffy.progress import Bar
from luffy.rewards.kinds import MATH
from luffy.rewards.pool import Pool
from luffy.rewards.settle import Comparison, as_question, explained, gold_answers, settle
from luffy.rewards.verdict import Reason, Verdict, verdict

TIME_LIMIT_S = 5.0
MEMORY_LIMIT_MB = 2048
REMEMBERED = 1 << 16


class Grader:
    """Judges responses in worker processes with hard limits; a context manager, safe to share between threads.

    The processes start with the first comparison that needs algebra and end with :meth:`close` or with this process.

    Args:
        workers: worker processes; None for one per core, at most 8.
        time_limit_s: seconds of CPU that one verdict may take, and 4 times as many of wall clock; its worker is then
            killed and replaced.
        memory_limit_mb: MiB of address space that a worker may have.
        remembered: comparisons whose outcome is kept, the latest ones.

    Raises:
        InputError: for limits that are not positive.
    """

    def __init__(
        self,
        workers: int | None = None,
        time_limit_s: float = TIME_LIMIT_S,
        memory_limit_mb: int = MEMORY_LIMIT_MB,
        remembered: int = REMEMBERED,
    ) -> None:
        self._limits = (workers or min(os.cpu_count() or 1, 8), time_limit_s, memory_limit_mb)
        if min(self._limits) <= 0 or remembered < 0:
            raise InputError("workers, time_limit_s and memory_limit_mb must be positive, remembered not negative")
        self._remembered = remembered
        self._reset()

    def __enter__(self) -> Grader:
        """The grader itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the grader."""
        self.close()

    def grade_batch(
        self,
        rows: Sequence[tuple[object, object]],
        *,
        kind: str | Sequence[str] = MATH,
        thought_gate: bool = False,
        truncated: Sequence[bool] | None = None,
        progress: bool = False,
    ) -> list[Verdict]:
        """Judge many responses.

        Args:
            rows: (response, gold) pairs; see :func:`grade`.
            kind: one kind for all rows, or one a row.
            thought_gate: a response without ``</think>`` is wrong.
            truncated: for each row whether it ended at its length limit; None for no row.
            progress: show a bar.

        Returns:
            One verdict a row, in the rows' order.

        Raises:
            InputError: for an unknown kind, or where ``kind`` or ``truncated`` has another length than ``rows``.
        """
        kinds = [kind] * len(rows) if isinstance(kind, str) else list(kind)
        cut = [False] * len(rows) if truncated is None else list(truncated)
        if not len(kinds) == len(cut) == len(rows):
            raise InputError(f"{len(rows)} rows, but {len(kinds)} kinds and {len(cut)} truncated marks: give one a row")
        verdicts = [
            self.submit(response, gold, kind=kind, thought_gate=thought_gate, truncated=is_cut)
            for (response, gold), kind, is_cut in zip(rows, kinds, cut, strict=True)
        ]
        return [each.result() for each in Bar(verdicts, desc="grade", unit="verdict", disable=not progress)]

    def submit(
        self, response: object, gold: object, *, kind: str = MATH, thought_gate: bool = False, truncated: bool = False
    ) -> Future[Verdict]:
        """Judge one response without waiting (``asyncio.wrap_future`` makes the result awaitable).

        Args:
            response: what the model wrote: str, UTF-8 bytes or None.
            gold: acceptable answer or answers.
            kind: one of ``luffy.rewards.kinds.KINDS``.
            thought_gate: a response without ``</think>`` is wrong.
            truncated: the response ended at its length limit.

        Returns:
            The verdict's future.

        Raises:
            InputError: for an unknown kind, or when the worker processes cannot start at all.
        """
        result: Future[Verdict] = Future()
        found = settle(response, gold, kind=kind, thought_gate=thought_gate, truncated=truncated)
        if isinstance(found, Verdict):
            result.set_result(found)
        else:
            outcome = self._outcome(found)
            outcome.add_done_callback(lambda done: result.set_result(explained(done.result(), truncated)))
        return result

    def readable(self, golds: Sequence[object], *, kind: str | Sequence[str] = MATH, progress: bool = False) -> list[bool]:
        r"""Whether gold answers can be read as a whole; an answer to one that cannot is right only where it is the same text.

        Args:
            golds: gold answers as :func:`grade` takes them.
            kind: one kind for all, or one a gold answer; all but ``"math"`` compare text, so that every text can be read.
            progress: show a bar.

        Returns:
            For each, False where it is empty or is no mathematics, no quantity and no words (``1, 2, \ldots, n``).
        """
        kinds = [kind] * len(golds) if isinstance(kind, str) else kind
        questions = [as_question(gold, each) for gold, each in zip(golds, kinds, strict=True)]
        asked = [question and self._outcome(question) for question in questions]
        found = Bar(zip(golds, asked, strict=True), total=len(golds), desc="read", unit="gold", disable=not progress)
        return [bool(gold_answers(gold)) if outcome is None else outcome.result().correct for gold, outcome in found]

    def close(self) -> None:
        """End the worker processes; a later use starts new ones."""
        if self._owner != os.getpid():
            return
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _outcome(self, comparison: Comparison) -> Future[Verdict]:
        """The remembered, awaited or new outcome of a comparison."""
        if self._owner != os.getpid():
            self._after_fork()
        with self._lock:
            outcome = self._outcomes.get(comparison)
            if outcome is not None:
                self._outcomes.move_to_end(comparison)
                return outcome
            pool = self._running_pool()
            outcome = self._outcomes[comparison] = Future()
            while len(self._outcomes) > self._remembered + 1:
                self._outcomes.popitem(last=False)
        pool.send(comparison, lambda found: self._keep(comparison, outcome, found))
        return outcome

    def _keep(self, comparison: Comparison, outcome: Future[Verdict], found: Verdict) -> None:
        """Publish an outcome; an error is not remembered, so that it can be tried again."""
        if found.answer is None and comparison.form == "boxed":
            found = verdict(found.reason, comparison.answer)
        if found.reason is Reason.ERROR:
            with self._lock:
                self._outcomes.pop(comparison, None)
        outcome.set_result(found)

    def _running_pool(self) -> Pool:
        if self._pool is None or not self._pool.alive:
            self._pool = Pool(*self._limits)
        return self._pool

    def _after_fork(self) -> None:
        """In a forked copy of the owner: leave the owner's processes alone and start afresh."""
        if self._pool is not None:
            self._pool.abandon()
        self._reset()

    def _reset(self) -> None:
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._pool: Pool | None = None
        self._outcomes: OrderedDict[Comparison, Future[Verdict]] = OrderedDict()


@cache
def _default_grader() -> Grader:
    grader = Grader(workers=1)
    atexit.register(grader.close)
    return grader


def grade(response: object, gold: object, *, thought_gate: bool = False, kind: str = MATH) -> Verdict:
    r"""Judge one response, in a worker process that this process keeps.

    Args:
        response: what the model wrote: str, UTF-8 bytes or None.
        gold: the acceptable answer, as number, LaTeX or text, or an iterable of acceptable answers.
        thought_gate: a response without ``</think>`` is wrong.
        kind: ``"math"`` (Math-Verify), ``"choice"`` (a letter), ``"tiny"`` (the embedded task) or ``"exact"``.

    Returns:
        Whether it is correct, why, and the answer found.

    Raises:
        InputError: for an unknown kind.
    """
    return _default_grader().submit(response, gold, thought_gate=thought_gate, kind=kind).result()
