"""The parent's end of the worker pool: starts the supervisor, sends comparisons, receives outcomes."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from luffy.errors import InputError
from luffy.rewards.options import WorkerLimits
from luffy.rewards.settle import Comparison
from luffy.rewards.verdict import Reason, Verdict

logger = logging.getLogger(__name__)

READY = b"ready\n"
_CLOSE_S = 5.0

Receiver = Callable[[Verdict], None]


class Pool:
    """A running supervisor process with its workers.

    Thread-safe. Every comparison sent gets exactly one outcome: when the supervisor ends, for whatever reason, those
    still open get ``Reason.ERROR``.

    Args:
        limits: of the workers.
        kind: the registered kind whose scorer they ask; "" for the algebra system.
    """

    def __init__(self, limits: WorkerLimits, kind: str = "") -> None:
        self._open: dict[int, Receiver] = {}
        self._sent = 0
        self._state = threading.Lock()
        self._writing = threading.Lock()
        self._process = _start_supervisor(limits, kind)
        assert self._process.stdin is not None and self._process.stdout is not None  # both are pipes
        self._input, self._output = self._process.stdin, self._process.stdout
        self._closing = False
        self.alive = True
        self._reader = threading.Thread(target=self._receive, name="luffy-rewards", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        return self._process.pid

    def send(self, comparison: Comparison, receive: Receiver) -> None:
        """Hand over a comparison; ``receive`` is called once with the verdict, from another thread."""
        payload = json.dumps((comparison.form, comparison.answer, comparison.golds))
        with self._state:
            job = self._sent
            self._sent += 1
            alive = self.alive
            if alive:
                self._open[job] = receive
        if not alive:
            receive(Verdict(Reason.ERROR))
            return
        try:
            with self._writing:
                write_all(self._input.fileno(), f"{job} {payload}\n".encode("ascii"))
        except (OSError, ValueError):  # it has ended: the reader settles what is open
            logger.debug("the reward supervisor no longer reads")

    def close(self) -> None:
        """End the supervisor and its workers; what is still open gets ``Reason.ERROR``."""
        self._closing = True
        with self._writing:
            self._input.close()
        try:
            self._process.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(_CLOSE_S)
        self._output.close()

    def abandon(self) -> None:
        """Forget a supervisor that a forked copy of its owner must not touch."""
        self._input.close()
        self._output.close()
        self._process.returncode = 0  # the original owner waits for it

    def _receive(self) -> None:
        for line in _lines(self._output.fileno()):
            job, _, payload = line.partition(b" ")
            reason, *found = json.loads(payload)
            with self._state:
                receive = self._open.pop(int(job))
            receive(Verdict(Reason(reason), *found))
        with self._state:
            self.alive = False
            lost, self._open = self._open, {}
        if lost or not self._closing:
            logger.warning("the reward supervisor ended; %d open verdicts are errors", len(lost))
        for receive in lost.values():
            receive(Verdict(Reason.ERROR))


def _start_supervisor(limits: WorkerLimits, kind: str) -> subprocess.Popen[bytes]:
    """Start the supervisor and wait until it has loaded the algebra system, or the scorer of a kind."""
    package_root = str(Path(__file__).resolve().parents[2])
    search = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
    words = (limits.workers or min(os.cpu_count() or 1, 8), limits.time_limit_s, limits.memory_limit_mb, kind)
    process = subprocess.Popen(
        [sys.executable, "-m", "luffy.rewards.supervisor", *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,  # no locks in the pipes' ends, which a forked copy of this process could inherit locked
        env={**os.environ, "PYTHONPATH": os.pathsep.join(search), "PYTHONSAFEPATH": "1"},
        start_new_session=True,  # Ctrl-C at the terminal goes to the trainer, which closes the pool
    )
    if process.stdout is None or process.stdout.readline() != READY:
        process.kill()
        raise InputError(
            f"the reward workers could not start (exit code {process.wait()}): their error is above; "
            f"check that {kind or 'math-verify'} is installed beside luffy"
        )
    return process


def _lines(descriptor: int) -> Iterator[bytes]:
    """Whole lines of a pipe as they come, until it ends."""
    unread = b""
    while data := os.read(descriptor, 1 << 16):
        *lines, unread = (unread + data).split(b"\n")
        yield from lines


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of some bytes, however few the descriptor takes at once."""
    while data:
        data = data[os.write(descriptor, data) :]
