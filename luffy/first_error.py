"""The earliest error in the log of a run of many processes, and whose it is.

What a run ends with is often a consequence of a consequence. A log holds the lines of all processes, each with its process in
front: ``(WorkerDict pid=12) ...`` by Ray, ``(EngineCore pid=12) ERROR 11-26 01:02:03 [core.py:7] ...`` by vLLM, ``[rank0]: ...`` by
torchrun.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

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
ENDS = ("KeyboardInterrupt", "SystemExit")  # how a process that is asked to end reports it
OF_RAY = re.compile(r"ray::(?P<name>\w+)")


@dataclass(frozen=True, kw_only=True)
class FoundError:
    """An error in a log.

    Attributes:
        part: name of the process as the log has it, such as ``WorkerDict``; empty where the line names none.
        text: type and message, in one line.
    """

    part: str
    text: str


def errors(lines: Iterable[str]) -> Iterator[FoundError]:
    """The errors of a log, the earliest first.

    Of a chain of exceptions the first one comes first, from which the others followed.

    Args:
        lines: of the log, in order.
    """
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
    """The deepest part and the last exception in the text of a Ray task error, or None where it has none.

    Args:
        error_text: as Ray gives it: the traceback of each part that the error went through, the deepest last.
    """
    found = None
    part = ""
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
