"""What a verifier says about one response, right or not and why; and what it says of a step in which nothing was right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from luffy.traces import THINK_CLOSE


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
        reason: why it is right or not.
        answer: the final answer in the notation that it was compared in, or None where none was found.
        partial: how right a wrong answer is, in [0, 1), where the scorer of its kind says so.
    """

    reason: Reason
    answer: str | None = None
    partial: float = 0.0

    @property
    def correct(self) -> bool:
        """Whether the final answer is the gold answer (the reward is 1 exactly then)."""
        return self.reason is Reason.CORRECT


METRIC_PREFIX = "reward/"
"""Of the metric of each reason: its share of a step's rows."""
WHAT_TO_DO = {
    Reason.TRUNCATED: "raise data.max_response_length, or take a model that comes to an end",
    Reason.GATE_FAILED: "no </think> in the response: a chat template under which the model thinks, or "
    "reward.reward_kwargs.thought_gate=false",
    Reason.NO_ANSWER: "no \\boxed{} or final answer found: ask for it in the prompt (a system message), or train with demonstrations",
    Reason.TIMED_OUT: "answers take the verifier too long: look at some, or raise reward.reward_kwargs.time_limit_s",
    Reason.ERROR: "the verifier failed on them: look at some, and at the gold answers (data/check.py)",
    Reason.WRONG: "answers are found but not right: easier problems, more demonstrations, or a look at the gold answers (data/check.py)",
}
_SHOWN_CHARS = 80


def why_zero(shares: Mapping[str, float]) -> tuple[Reason, str] | None:
    """The largest reason of a step without any reward, and a line with all of them and what to do.

    Args:
        shares: a step's metrics; read are ``reward/REASON``, shares of its rollouts in [0, 1]. What they leave is wrong answers.

    Returns:
        None where the step's metrics say nothing of reasons.
    """
    known = {reason: float(shares[name]) for reason in WHAT_TO_DO if (name := METRIC_PREFIX + reason.name.lower()) in shares}
    if not known:
        return None
    known[Reason.WRONG] = max(0.0, 1.0 - sum(known.values()))
    ordered = sorted((reason for reason in known if known[reason] > 0.005), key=lambda reason: -known[reason])
    parts = ", ".join(f"{reason} {known[reason]:.2f}".replace(" 0.", " .") for reason in ordered)
    return ordered[0], f"no rollout earned a reward: {parts} ({ordered[0]}: {WHAT_TO_DO[ordered[0]]})"


def gate_warning(reasons: Sequence[str], prompt_end: str, response: str) -> str | None:
    """What to tell the user when the thought gate gave every row of a step a zero: prompt and model do not fit together.

    Args:
        reasons: of the step's verdicts (:class:`Reason` or its text).
        prompt_end: the rendered prompt of one row, or its end.
        response: the response of the same row.

    Returns:
        One line with what the prompt ends with, what the response lacks and what to do; None where some row passed
        the gate, or where every row was merely cut off.
    """
    if Reason.GATE_FAILED not in reasons or set(reasons) - {Reason.GATE_FAILED, Reason.TRUNCATED}:
        return None
    return (
        f"thought gate: all {len(reasons)} rows of this step got reward 0 because no response closes its thought. "
        f"The prompt ends with {prompt_end[-_SHOWN_CHARS:]!r}; the response has no {THINK_CLOSE!r} and ends with "
        f"{response[-_SHOWN_CHARS:]!r}. Use a template under which the model writes {THINK_CLOSE}, or turn thought_gate off."
    )
