"""One worker process: reads comparisons from its supervisor, answers each with one line."""

from __future__ import annotations

import json
import os
import resource
import socket

from luffy.rewards import algebra
from luffy.rewards.lockdown import Lockdown
from luffy.rewards.verdict import Reason

RETIRING = b"retiring\n"


def work(supervisor: socket.socket, memory_limit_mb: int) -> None:
    """Judge every line that comes in, until the supervisor closes the socket or memory has grown.

    Args:
        supervisor: carries lines ``<id> <json of [form, answer, golds]>`` in and ``<id> <json of [reason, answer]>`` out.
        memory_limit_mb: address space that the process may have, in MiB; beyond half of it, resident, it retires.
    """
    lockdown = Lockdown(memory_limit_mb)
    with supervisor.makefile("rb") as lines:
        for line in lines:
            job, _, payload = line.partition(b" ")
            supervisor.sendall(job + b" " + json.dumps(_judge(payload, lockdown)).encode() + b"\n")
            if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > memory_limit_mb << 9:
                supervisor.sendall(RETIRING)
                return


def _judge(payload: bytes, lockdown: Lockdown) -> tuple[str, str | None]:
    """The reason and the answer of one comparison; whatever a library raises on it is the reason ``error``."""
    form, answer, golds = json.loads(payload)
    before = lockdown.refusals
    try:
        reason, found = algebra.judge(form, answer, golds)
    except Exception:  # noqa: BLE001  the boundary to untrusted text: counted by the reason
        reason, found = Reason.ERROR, answer if form == algebra.BOXED else None
    if lockdown.refusals > before and reason is not Reason.CORRECT:
        reason = Reason.ERROR
    return reason.value, found


def start(supervisor_end: socket.socket, worker_end: socket.socket, memory_limit_mb: int) -> int:
    """Fork a worker process.

    Args:
        supervisor_end: stays with the caller.
        worker_end: the child's; closed in the caller.
        memory_limit_mb: as for :func:`work`.

    Returns:
        The child's process id.
    """
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
        work(socket.socket(fileno=kept), memory_limit_mb)
        code = 0
    finally:
        os._exit(code)
