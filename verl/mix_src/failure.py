"""What a failed run says: the error that came first, and whose it was."""

from __future__ import annotations

from pathlib import Path

from luffy.first_error import FoundError, first_error, origin

SHOWN_CHARACTERS = 600
CALLED = {  # part of a process's name in the log: what a person calls it
    "TaskRunner": "the trainer",
    "WorkerDict": "an actor worker (FSDP)",
    "vLLMHttpServer": "a rollout server (vLLM)",
    "EngineCore": "a rollout engine (vLLM)",
    "RewardLoopWorker": "a reward worker",
    "AgentLoopWorker": "an agent loop worker",
    "raylet": "Ray's node manager",
    "rank": "a training process",
}


def what_failed(log: Path, log_start: int, lost_part: str | None, error: Exception | None = None) -> str:
    """One line: the earliest error in the log, and the last one where that is another.

    Args:
        log: the run's log.
        log_start: bytes of the log that are of earlier starts.
        lost_part: what the watch says, such as "a rollout engine (vLLM) ended"; None where no part was lost.
        error: what the driver got from Ray.
    """
    with log.open("rb") as file:
        file.seek(log_start)
        first = first_error(line.decode(errors="replace") for line in file)
    last = origin(str(error)) if error is not None else None
    if first is None:
        first, last = last, None
    if first is None:
        reason = f": {type(error).__name__}: {str(error).strip().splitlines()[-1:]}" if error is not None else ""
        return f"first {lost_part or 'the trainer'}{reason}"
    told = f"first in {_called(first)}: {first.text}"
    if last is not None and last.text != first.text:
        told += f"; then in {_called(last)}: {last.text}"
    elif lost_part:
        told += f"; then {lost_part}"
    return told[:SHOWN_CHARACTERS]


def _called(found: FoundError) -> str:
    return next((called for name, called in CALLED.items() if name in found.part), found.part or "the trainer")
