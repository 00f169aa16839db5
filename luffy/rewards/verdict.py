"""What a verifier says about one response: right or not, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a verdict is what it is; the value is the text that tables and logs show."""

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no answer found"
    GATE_FAILED = "gate failed"
    TRUNCATED = "truncated"
    TIMED_OUT = "timed out"
    UNREADABLE = "gold answer not readable"
    ERROR = "error"


@dataclass(frozen=True)
class Verdict:
    """The verifier's finding on one response.

    Attributes:
        correct: whether the final answer is the gold answer (the reward is 1 exactly then).
        reason: why; :attr:`Reason.CORRECT` exactly when ``correct``.
        answer: the final answer in the notation that it was compared in, or None where none was found.
    """

    correct: bool
    reason: Reason
    answer: str | None = None


def verdict(reason: Reason, answer: str | None = None) -> Verdict:
    """A verdict from its reason alone: ``correct`` follows."""
    return Verdict(correct=reason is Reason.CORRECT, reason=reason, answer=answer)
