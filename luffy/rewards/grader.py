"""Verdicts on many responses: a pool of worker processes, and each comparison made once."""

from __future__ import annotations

import atexit
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from functools import cache
from typing import Any

from luffy.errors import InputError
from luffy.rewards.answer import gold_answers
from luffy.rewards.kinds import MATH
from luffy.rewards.options import GraderOptions
from luffy.rewards.pool import Pool
from luffy.rewards.settle import PROSE, READABLE, Comparison, explained, settle, to_read
from luffy.rewards.verdict import Reason, Verdict


class Grader:
    """Judges responses in worker processes with hard limits; a context manager, safe to share between threads.

    The processes start with the first comparison that needs algebra, or the scorer of a kind, and end with :meth:`close` or with this process.

    Args:
        options: fields of :class:`~luffy.rewards.options.GraderOptions`: ``workers``, ``time_limit_s``, ``memory_limit_mb``, ``remembered``.

    Raises:
        InputError: for an unknown option, or a value out of bounds.
    """

    def __init__(self, **options: Any) -> None:
        self._options = GraderOptions(**options)
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
    ) -> list[Verdict]:
        """Judge many responses.

        Args:
            rows: (response, gold) pairs; see :meth:`submit`.
            kind: one kind for all rows, or one a row.
            thought_gate: a response without ``</think>`` is wrong.
            truncated: for each row whether it ended at its length limit; None for no row.

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
        return [each.result() for each in verdicts]

    def submit(
        self, response: object, gold: object, *, kind: str = MATH, thought_gate: bool = False, truncated: bool = False
    ) -> Future[Verdict]:
        """Judge one response without waiting (``asyncio.wrap_future`` makes the result awaitable).

        Args:
            response: what the model wrote: str, UTF-8 bytes or None.
            gold: the acceptable answer, as number, LaTeX or text, or an iterable of acceptable answers.
            kind: ``"math"`` (Math-Verify), ``"choice"`` (a letter), ``"exact"``, or a registered one (:mod:`luffy.rewards.kinds`).
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

    def readable(self, golds: Sequence[object], *, kind: str | Sequence[str] = MATH) -> list[bool]:
        r"""Whether gold answers can be read as a whole; an answer to one that cannot is right only where it is the same text.

        Args:
            golds: gold answers as :meth:`submit` takes them.
            kind: one kind for all, or one a gold answer; all but ``"math"`` compare text, so that every text can be read.

        Returns:
            For each, False where it is empty or is no mathematics, no quantity and no words (``1, 2, \ldots, n``).
        """
        kinds = [kind] * len(golds) if isinstance(kind, str) else kind
        questions = [to_read(gold, each) for gold, each in zip(golds, kinds, strict=True)]
        asked = [None if question is None else self._outcome(question) for question in questions]
        found = zip(golds, asked, strict=True)
        return [bool(gold_answers(gold)) if outcome is None else outcome.result().correct for gold, outcome in found]

    def close(self) -> None:
        """End the worker processes; a later use starts new ones."""
        if self._owner != os.getpid():
            return
        with self._lock:
            pools = list(self._pools.values())
            self._pools.clear()
        for pool in pools:
            pool.close()

    def _outcome(self, comparison: Comparison) -> Future[Verdict]:
        """The remembered, awaited or new outcome of a comparison."""
        if self._owner != os.getpid():  # a forked copy of the owner: leave the owner's processes alone and start afresh
            for pool in self._pools.values():
                pool.abandon()
            self._reset()
        with self._lock:
            outcome = self._outcomes.get(comparison)
            if outcome is not None:
                self._outcomes.move_to_end(comparison)
                return outcome
            if comparison.kind not in self._pools or not self._pools[comparison.kind].alive:
                self._pools[comparison.kind] = Pool(self._options, comparison.kind)
            pool, outcome = self._pools[comparison.kind], Future()
            self._outcomes[comparison] = outcome
            while len(self._outcomes) > self._options.remembered + 1:
                self._outcomes.popitem(last=False)
        pool.send(comparison, lambda found: self._keep(comparison, outcome, found))
        return outcome

    def _keep(self, comparison: Comparison, outcome: Future[Verdict], found: Verdict) -> None:
        """Publish an outcome; an error is not remembered, so that it can be tried again."""
        if found.answer is None and comparison.form not in (PROSE, READABLE):
            found = Verdict(found.reason, comparison.answer, found.partial)
        if found.reason is Reason.ERROR:
            with self._lock:
                self._outcomes.pop(comparison, None)
        outcome.set_result(found)

    def _reset(self) -> None:
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._pools: dict[str, Pool] = {}
        self._outcomes: OrderedDict[Comparison, Future[Verdict]] = OrderedDict()


@cache
def _default_grader() -> Grader:
    grader = Grader(workers=1)
    atexit.register(grader.close)
    return grader


def grade(response: object, gold: object, *, thought_gate: bool = False, kind: str = MATH) -> Verdict:
    """Judge one response, in a worker process that this process keeps; arguments and errors as of :meth:`Grader.submit`.

    Returns:
        Whether it is correct, why, and the answer found.
    """
    return _default_grader().submit(response, gold, thought_gate=thought_gate, kind=kind).result()
