"""What a failed run says: the error that came first, and whose it was."""

from __future__ import annotations

from pathlib import Path

from luffy.first_error import FoundError, errors, origin
from verl.mix_src.parts import ACTORS, NODE_MANAGER

SHOWN_CHARACTERS = 600
CALLED = {  # part of a process's name in the log: what a person calls it
    **ACTORS,
    "TaskRunner": ACTORS["TaskRunnerV1"],
    "AgentLoopWorker": ACTORS["AgentLoopWorkerTQ"],
    "EngineCore": "a rollout engine (vLLM)",
    NODE_MANAGER: "Ray's node manager",
    "rank": "a training process",
}


def what_failed(log: Path, log_start: int, lost_part: str | None, error: Exception | None = None) -> str:
    """One line: what came first, and what followed where that is another.

    Where a part was lost, its own error is what came first, or else its end: that others complain of it came after.

    Args:
        log: the run's log.
        log_start: bytes of the log that are of earlier starts.
        lost_part: what the watch says, such as "a rollout engine (vLLM) ended"; None where no part was lost.
        error: what the driver got from Ray.
    """
    with log.open("rb") as file:
        file.seek(log_start)
        found = [(_called(each), each) for each in errors(line.decode(errors="replace") for line in file)]
    if error is not None and (last := origin(str(error))):
        found.append((_called(last), last))
    told = [f"in {part}: {each.text}" for part, each in found]
    if lost_part:
        causes = [n for n, (part, each) in enumerate(found) if part in lost_part or NODE_MANAGER in each.part]
        told = [told[causes[0]], lost_part] if causes else [lost_part, *told]
    if not told:
        return f"first the trainer: {type(error).__name__}: {error}"[:SHOWN_CHARACTERS] if error is not None else "and no part says why"
    line = f"first {told[0]}"
    if told[-1] != told[0] and not told[0].endswith(told[-1].split(": ", 1)[-1]):
        line += f"; then {told[-1]}"
    return line[:SHOWN_CHARACTERS]


def _called(found: FoundError) -> str:
    return next((called for name, called in CALLED.items() if name in found.part), found.part or ACTORS["TaskRunnerV1"])
