"""The parts of a run: which of its processes a run cannot go on without, known by title *and* place.

A title alone says little: a forked child (a data-loader worker, a worker of ``datasets``, a compiler between fork and exec)
has the title of its parent until it takes another. So a part of Ray is what Ray's node manager started itself, and an
engine of vLLM is what a rollout server started; what lies below them is theirs, and may come and go.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import psutil

NODE_MANAGER, SERVER = "raylet", "ray::vLLMHttpServer"
HEAD = "Ray's head"
ACTORS = {  # class of a Ray actor: what a person calls it
    "TaskRunnerV1": "the trainer",  # a process is titled by the class that was decorated, Ray's table has the subclass
    "MixTaskRunner": "the trainer",
    "TransferQueueController": "the TransferQueue controller",
    "SimpleStorageUnit": "a TransferQueue storage unit",
    "WorkerDict": "an actor worker (FSDP)",
    "CheckpointEngineWorker": "a weight-sync worker",
    "vLLMHttpServer": "a rollout server (vLLM)",
    "RewardLoopWorker": "a reward worker",
    "AgentLoopWorkerTQ": "an agent loop worker",
    "MixAgentLoopWorker": "an agent loop worker",
}
ENDS_FIRST = {ACTORS["TransferQueueController"], ACTORS["SimpleStorageUnit"]}  # the trainer closes them when it is done
PLACES = (  # start of a title, start of the next title above (None: there is none), what a person calls it
    ("gcs_server", None, HEAD),
    (NODE_MANAGER, None, "Ray's node manager"),
    *((f"ray::{actor}", NODE_MANAGER, name) for actor, name in ACTORS.items()),
    ("VLLM::EngineCore", SERVER, "a rollout engine (vLLM)"),
    ("VLLM::Worker", "VLLM::EngineCore", "a rollout engine's worker (vLLM)"),
    ("VLLM::Worker", SERVER, "a rollout engine's worker (vLLM)"),
)
TITLED = ("gcs_server", NODE_MANAGER, "ray::", "VLLM::")


@dataclass(frozen=True)
class _Seen:
    title: str | None  # None: not one of those that Ray and vLLM give
    parent: int


def parts(processes: Iterable[psutil.Process]) -> dict[psutil.Process, str]:
    """The parts of a run among its processes.

    Args:
        processes: all processes below the run's main process.

    Returns:
        What a person calls them, from the top of the tree to the bottom.
    """
    looked_at = list(processes)
    seen = {process.pid: found for process in looked_at if (found := _look(process))}
    return {process: name for process in looked_at if process.pid in seen and (name := _name(process.pid, seen))}


def _look(process: psutil.Process) -> _Seen | None:
    try:
        with process.oneshot():
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            title = (process.cmdline() or [process.name()])[0].rsplit("/", 1)[-1]
            return _Seen(title if title.startswith(TITLED) else None, process.ppid())
    except psutil.Error:
        return None  # ended while we looked


def _name(pid: int, seen: dict[int, _Seen]) -> str | None:
    title = seen[pid].title
    if title is None:
        return None
    above = _next_title_above(pid, seen)
    for start, place, name in PLACES:
        if title.startswith(start):
            if above is None if place is None else (above is not None and seen[above].title.startswith(place)):
                return name if above is None or _name(above, seen) else None
    return None


def _next_title_above(pid: int, seen: dict[int, _Seen]) -> int | None:
    parent = seen[pid].parent
    while parent in seen and seen[parent].title is None:
        parent = seen[parent].parent
    return parent if parent in seen else None
