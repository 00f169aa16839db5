"""What a failed run says: the earliest error in its log, and whose it is.

What a run ends with is often a consequence of a consequence. A log holds the lines of all processes, each with its process in
front: ``(WorkerDict pid=12) ...`` by Ray, ``(EngineCore pid=12) ERROR 11-26 01:02:03 [core.py:7] ...`` by vLLM, ``[rank0]: ...`` by
torchrun.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from verl.mix_src.upstream import ACTORS, CALLED, ENGINE_WORKER_NAME, NODE_MANAGER

SHOWN_CHARACTERS = 600
SKIPPED = "training/skipped_steps"  # metric


class BadNumbers(Exception):
    """Loss or gradient is NaN or infinite again and again, in one line."""


def what_failed(log: Path, log_start: int, lost_part: str | None, error: Exception | None = None) -> str:
    """One line: what came first, and what followed where that is another.

    Where a part was lost, its own error is what came first, or else its end: that others complain of it came after.

    Args:
        log: the run's log.
        log_start: bytes of the log that are of earlier starts.
        lost_part: what the watch says, such as "a rollout engine (vLLM) ended"; None where no part was lost.
        error: what the driver got from Ray.
    """
    last = origin(str(error)) if error is not None else None
    if not lost_part and last and (own := RAISED.match(last.text)) and own["type"].rsplit(".", 1)[-1] in LAST_WORD:
        return str(own["message"])[:SHOWN_CHARACTERS]
    with log.open("rb") as file:
        file.seek(log_start)
        found = [(_called(each), each) for each in errors(line.decode(errors="replace") for line in file)]
    if last:
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
    if OF_ENGINE_WORKER.fullmatch(found.part):
        return ENGINE_WORKER_NAME
    return next((called for name, called in CALLED.items() if name in found.part), found.part or ACTORS["TaskRunnerV1"])


ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
PART = re.compile(r"^\((?P<name>[A-Za-z_][\w.:]*)(?:[^()]*?pid=(?P<pid>\d+))?[^()]*\)\s?")
RANK = re.compile(r"^\[(?P<name>rank\d+)\]:\s?")
LOGGED = re.compile(r"^(?:ERROR|CRITICAL|WARNING|INFO)\s+\d\d-\d\d \d\d:\d\d:\d\d (?:\[[^\]]*\]|\S+\]) ?")
TRACEBACK = "Traceback (most recent call last):"
RAISED = re.compile(r"^(?P<type>(?:[A-Za-z_]\w*\.)*[A-Z]\w*)(?::\s*(?P<message>.*))?$")
FATAL = re.compile(
    r"Fatal Python error: .*|\*\*\* SIG[A-Z]+ received.*|Segmentation fault.*|.*killed due to memory pressure.*"
    r"|.*\bOut of memory: Killed process.*|terminate called after throwing.*|error: .+"
)
LAST_WORD = ("CheckpointFailed", "BadNumbers")  # errors of the project whose text is all that a person needs
ENDS = ("KeyboardInterrupt", "SystemExit")  # how a process that is asked to end reports it
OF_ENGINE_WORKER = re.compile(r"Worker(?:_[A-Z]+\d+)*")  # vLLM's own name of it, with its ranks: Worker_TP0
OF_RAY = re.compile(r"ray::(?P<name>\w+)")


class FoundError(NamedTuple):
    """An error in a log: name of its process as the log has it, empty where the line names none, and type and message in one line."""

    part: str
    text: str


def errors(lines: Iterable[str]) -> Iterator[FoundError]:
    """The errors in the lines of a log, the earliest first; of a chain of exceptions the one from which the others followed."""
    inside: dict[tuple[str, str | None], str] = {}  # processes in the middle of a traceback, and whose it is
    for line in lines:
        name, process, text = _split(line)
        key = (name, process)
        if text.strip() == TRACEBACK:
            inside.setdefault(key, name)
        elif key in inside:
            if remote := OF_RAY.search(text):
                inside[key] = remote["name"]
            match = RAISED.match(text)
            if match and match["type"].rsplit(".", 1)[-1] not in ENDS:
                yield FoundError(part=inside.pop(key), text=text.strip())
            elif match:
                del inside[key]
        elif FATAL.fullmatch(text.strip()):
            yield FoundError(part=name, text=text.strip().removeprefix("error: "))


def origin(error_text: str) -> FoundError | None:
    """The deepest part and the last exception in a Ray task error's text: the traceback of each part that it went through."""
    found, part = None, ""
    for line in error_text.splitlines():
        if match := OF_RAY.search(line):
            part = match["name"]
        elif (match := RAISED.match(line.strip())) and not line.startswith(" "):
            found = FoundError(part=part, text=line.strip())
    return found


def _split(line: str) -> tuple[str, str | None, str]:
    """Name and id of the process, and what it wrote; inner prefixes count (an engine within a server)."""
    text = ESCAPES.sub("", line.rstrip("\n"))
    name, process = "", None
    while match := PART.match(text) or RANK.match(text) or LOGGED.match(text):
        found = match.groupdict()
        name, process = found.get("name") or name, found.get("pid") or process
        text = text[match.end() :]
    return name, process, text
