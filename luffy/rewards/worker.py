"""One worker process: reads comparisons from its supervisor, answers each with one line."""

from __future__ import annotations

import json
import math
import os
import resource
import socket
import sys
from collections.abc import Callable
from typing import Any

from luffy.rewards.lockdown import Lockdown
from luffy.rewards.settle import PROSE, READABLE
from luffy.rewards.verdict import Reason

RETIRING = b"retiring\n"

Compare = Callable[[str, str, list[str]], tuple[Any, ...]]
"""Form, answer and gold answers, to reason, answer and, where it is partly right, how much."""


def by_score(score: Callable[[str, str], float]) -> Compare:
    """The comparison by a scorer: the best score beside any of the gold answers; 1 and more is right."""

    def compare(form: str, answer: str, golds: list[str]) -> tuple[Any, ...]:
        best = max(float(score(answer, gold)) for gold in golds)
        partial = min(max(best, 0.0), 1.0) if math.isfinite(best) else 0.0
        return (Reason.CORRECT, answer) if partial == 1.0 else (Reason.WRONG, answer, partial)

    return compare


def work(supervisor: socket.socket, memory_limit_mb: int, compare: Compare) -> None:
    """Compare what every line holds that comes in, until the supervisor closes the socket or memory has grown.

    Args:
        supervisor: carries lines ``<id> <json of [form, answer, golds]>`` in and ``<id> <json of [reason, answer, ...]>`` out.
        memory_limit_mb: address space that the process may have, in MiB; beyond half of it, resident, it retires.
        compare: compares.
    """
    sys.dont_write_bytecode = True
    lockdown = Lockdown(memory_limit_mb)
    with supervisor.makefile("rb") as lines:
        for line in lines:
            job, _, payload = line.partition(b" ")
            supervisor.sendall(job + b" " + json.dumps(_compare(payload, lockdown, compare)).encode() + b"\n")
            if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > memory_limit_mb << 9:
                supervisor.sendall(RETIRING)
                return


def _compare(payload: bytes, lockdown: Lockdown, compare: Compare) -> tuple[Any, ...]:
    """What ``compare`` says of one comparison; whatever a library raises on it is the reason ``error``."""
    form, answer, golds = json.loads(payload)
    before = lockdown.refusals
    try:
        reason, *found = compare(form, answer, golds)
    except Exception:  # noqa: BLE001  the boundary to untrusted text: counted by the reason
        reason, found = Reason.ERROR, [None if form in (PROSE, READABLE) else answer]
    if lockdown.refusals > before and reason is not Reason.CORRECT:
        reason, found = Reason.ERROR, found[:1]
    return reason.value, *found


def start(supervisor_end: socket.socket, worker_end: socket.socket, memory_limit_mb: int, compare: Compare) -> int:
    """Fork a worker process, and give its id; ``supervisor_end`` stays with the caller, where ``worker_end``, the child's, is closed."""
    pid = os.fork()
    if pid:
        worker_end.close()
        return pid
    code = 1
    try:
        kept = os.dup2(worker_end.fileno(), 3) if worker_end.fileno() != 3 else 3
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        work(socket.socket(fileno=kept), memory_limit_mb, compare)
        code = 0
    finally:
        os._exit(code)
