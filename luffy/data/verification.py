"""The project's verifier, applied to the traces and gold answers of a data set."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from luffy.rewards import Grader, Verdict, kind_for


@dataclass(frozen=True)
class Verify:
    """Grades responses and reads gold answers by the kind of their data source, as training does.

    Attributes:
        grader: the worker processes.
        thought_gate: whether a response without a closed thought is never correct.
    """

    grader: Grader
    thought_gate: bool

    def __call__(self, items: Sequence[tuple[str, str, str]]) -> list[Verdict]:
        """The verdict of each (response, gold answer, data_source)."""
        pairs = [(response, gold) for response, gold, _ in items]
        kinds = [kind_for(data_source) for _, _, data_source in items]
        return self.grader.grade_batch(pairs, kind=kinds, thought_gate=self.thought_gate)

    def readable(self, golds: Sequence[tuple[str, str]]) -> list[bool]:
        """Whether each (gold answer, data_source) can be read as a whole; if not, only the same text equals it."""
        return self.grader.readable([gold for gold, _ in golds], kind=[kind_for(source) for _, source in golds])


@contextlib.contextmanager
def verifier(*, workers: int | None = None, time_limit_s: float = 5.0, thought_gate: bool = False) -> Iterator[Verify]:
    """Start the verifier.

    Args:
        workers: processes; None for one per core.
        time_limit_s: seconds after which a verdict is given up.
        thought_gate: whether a response without a closed thought is never correct.
    """
    with Grader(workers=workers, time_limit_s=time_limit_s) as grader:
        yield Verify(grader, thought_gate)
