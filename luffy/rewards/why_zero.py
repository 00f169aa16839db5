"""Why no rollout of a step earned a reward, in one line for a person."""

from __future__ import annotations

from collections.abc import Mapping

from luffy.rewards.verdict import Reason

PREFIX = "reward/"  # of the metric of each reason
WHAT_TO_DO = {
    Reason.TRUNCATED: "raise data.max_response_length, or take a model that comes to an end",
    Reason.GATE_FAILED: "no </think> in the response: a chat template under which the model thinks, or "
    "reward.reward_kwargs.thought_gate=false",
    Reason.NO_ANSWER: "no \\boxed{} or final answer found: ask for it in the prompt (a system message), or train with demonstrations",
    Reason.TIMED_OUT: "answers take the verifier too long: look at some, or raise reward.reward_kwargs.time_limit_s",
    Reason.ERROR: "the verifier failed on them: look at some, and at the gold answers (data/check.py)",
    Reason.WRONG: "answers are found but not right: easier problems, more demonstrations, or a look at the gold answers (data/check.py)",
}


def why_zero(shares: Mapping[str, float]) -> tuple[Reason, str] | None:
    """The largest reason of a step without any reward, and a line with all of them and what to do.

    Args:
        shares: a step's metrics; read are ``reward/REASON``, shares of its rollouts in [0, 1]. What they leave is wrong answers.

    Returns:
        None where the step's metrics say nothing of reasons.
    """
    known = {reason: float(shares[name]) for reason in WHAT_TO_DO if (name := f"{PREFIX}{reason.name.lower()}") in shares}
    if not known:
        return None
    known[Reason.WRONG] = max(0.0, 1.0 - sum(known.values()))
    ordered = sorted((reason for reason in known if known[reason] > 0.005), key=lambda reason: -known[reason])
    parts = ", ".join(f"{reason} {known[reason]:.2f}".replace(" 0.", " .") for reason in ordered)
    return ordered[0], f"no rollout earned a reward: {parts} ({ordered[0]}: {WHAT_TO_DO[ordered[0]]})"
