"""What a line of a file of samples holds, read with care: such files also come from other programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from luffy.errors import InputError
from luffy.evaluation.problems import is_gold

LONGEST = 10**12  # tokens; what is longer is no length
CUT_OFF = "length"
CUT_OFF_ELSEWHERE = ("max_tokens", "max_new_tokens", "max_length", "max_output_tokens", "truncated")  # of other programs
VERDICTS = {True: True, False: False, "true": True, "false": False, "1": True, "0": False}


@dataclass(frozen=True, kw_only=True)
class ScoredSample:
    """A sample with its verdict.

    Attributes:
        benchmark: the problem's ``data_source``.
        problem: the problem's number.
        sample: number of the sample among those of its problem.
        correct: the verdict.
        answered: whether it has an answer; None where the line does not say.
        reason: why the verdict; None where the line does not say, like the next two.
        length: tokens of the response.
        finish_reason: why it ended.
    """

    benchmark: str
    problem: int
    sample: int
    correct: bool
    answered: bool | None
    reason: str | None
    length: float | None
    finish_reason: str | None


def read_scored(row: dict[str, Any], where: str) -> ScoredSample:
    """Read a scored sample.

    Args:
        row: a line's object; ``problem`` and ``sample`` are known to be there.
        where: file and line, for the error.

    Raises:
        InputError: where it has no verdict, or a value whose meaning is not clear.
    """
    if row.get("correct") is None:
        raise InputError(f"{where}: its samples are not scored; run eval_scripts/score.py on it first")
    value = row["correct"]
    correct = VERDICTS.get(value.strip().lower() if isinstance(value, str) else value) if _is_plain(value) else None
    if correct is None:
        raise InputError(f"{where}: 'correct' is {value!r:.60}; write true or false")
    return ScoredSample(
        benchmark=_text(row, "benchmark", where),
        problem=row["problem"],
        sample=row["sample"],
        correct=correct,
        answered=_is_answer(row["answer"]) if "answer" in row else None,
        reason=_optional_text(row, "reason", where),
        length=_length(row, where),
        finish_reason=_finish_reason(row, where),
    )


def read_generated(row: dict[str, Any], where: str) -> dict[str, Any]:
    """Read a sample that is to be scored: its line, with None for ``length`` and ``finish_reason`` where it has none.

    Raises:
        InputError: where it has no response, benchmark or gold answer, or a value of another type than it should.
    """
    gold = row.get("gold")
    if not is_gold(gold):
        raise InputError(f"{where}: no gold answer; 'gold' must be a text, a number, or a list of those that are accepted")
    return {
        **row,
        "benchmark": _text(row, "benchmark", where),
        "response": _text(row, "response", where, empty=True),
        "prompt": _optional_text(row, "prompt", where) or "",
        "length": _length(row, where),
        "finish_reason": _finish_reason(row, where),
    }


def _text(row: dict[str, Any], name: str, where: str, *, empty: bool = False) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not (empty or (value.strip() and value.isprintable())):
        raise InputError(f"{where}: '{name}' is {value!r:.60}; it must be text" + ("" if empty else " on one line"))
    return value


def _optional_text(row: dict[str, Any], name: str, where: str) -> str | None:
    return None if row.get(name) is None else _text(row, name, where, empty=True)


def _finish_reason(row: dict[str, Any], where: str) -> str | None:
    reason = _optional_text(row, "finish_reason", where)
    return CUT_OFF if reason and reason.strip().lower() in (CUT_OFF, *CUT_OFF_ELSEWHERE) else reason


def _is_answer(value: Any) -> bool:
    return value is not None and value == value and str(value).strip() != ""  # NaN is no answer


def _length(row: dict[str, Any], where: str) -> float | None:
    value = row.get("length")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= LONGEST:
        raise InputError(f"{where}: 'length' is {value!r:.60}; it must be a number of tokens")
    return value


def _is_plain(value: Any) -> bool:
    return isinstance(value, (bool, int, float, str))
