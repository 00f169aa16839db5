"""The process between a grader and its workers: ``python -m luffy.rewards.supervisor WORKERS TIME_LIMIT_S MEMORY_LIMIT_MB
[KIND]``.

It imports the algebra system (or the scorer of a registered kind) once, forks workers from that state in milliseconds, hands out comparisons, and kills a
worker that exceeds the time limit. It judges nothing itself and has one thread, so that forking is safe whatever the
trainer runs. Comparisons come in on stdin and verdicts go out on stdout, one line each; when stdin closes or the parent
dies, it kills its workers and ends.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections import deque
from dataclasses import dataclass, field

from luffy.rewards import algebra, worker
from luffy.rewards.kinds import prepare_scorer
from luffy.rewards.pool import READY, write_all
from luffy.rewards.verdict import Reason

_AHEAD = 2
"""Comparisons handed to a worker at once: the next one is there when it is done."""
_AHEAD_BYTES = 64 << 10
"""Most bytes handed to a busy worker, less than a socket holds, so that sending never waits."""
_PARENT_CHECK_S = 1.0
STARVED_FACTOR = 4
"""On a busy machine a comparison may take this many times its time limit of wall clock, if it gets too little CPU."""
_CLOCK_S = 0.02


@dataclass
class _Worker:
    """A worker process and what it has been given."""

    pid: int
    channel: socket.socket
    given: deque[bytes] = field(default_factory=deque)
    unread: bytes = b""
    began: float = 0.0
    cpu_before: float = 0.0
    deadline: float = 0.0
    retiring: bool = False

    def begin(self, time_limit_s: float) -> None:
        """Note that it starts on its next comparison now."""
        self.began, self.cpu_before = time.monotonic(), self.cpu_seconds()
        self.deadline = self.began + time_limit_s

    def overdue(self, time_limit_s: float) -> bool:
        """Whether its comparison has used up its time; if not, ``deadline`` is when to ask again."""
        now = time.monotonic()
        if now <= self.deadline:
            return False
        left = time_limit_s - (self.cpu_seconds() - self.cpu_before)
        last = self.began + STARVED_FACTOR * time_limit_s
        self.deadline = min(now + max(left, _CLOCK_S), last)
        return left <= _CLOCK_S or now >= last

    def cpu_seconds(self) -> float:
        """CPU time of the process so far; 0 once it has ended."""
        try:
            return time.clock_gettime(~self.pid << 3 | 2)  # Linux's clock id of another process's CPU time
        except OSError:
            return 0.0

    def job(self) -> bytes:
        """The id of the comparison that it is at."""
        return self.given[0].partition(b" ")[0]

    def takes(self, line: bytes) -> bool:
        """Whether it can be given one more line without waiting."""
        if not self.given:
            return True
        return len(self.given) < _AHEAD and sum(map(len, self.given)) + len(line) <= _AHEAD_BYTES


class Supervisor:
    """Hands comparisons to a fixed number of worker processes; see the module."""

    def __init__(self, workers: int, time_limit_s: float, memory_limit_mb: int, compare: worker.Compare) -> None:
        self._compare = compare
        self._time_limit_s = time_limit_s
        self._memory_limit_mb = memory_limit_mb
        self._waiting: deque[bytes] = deque()
        self._unread = b""
        self._done: list[bytes] = []
        self._parent = os.getppid()
        self._selector = selectors.DefaultSelector()
        self._selector.register(sys.stdin.buffer, selectors.EVENT_READ, None)
        self._workers = [self._start() for _ in range(workers)]

    def serve(self) -> None:
        """Run until the parent closes stdin or is gone."""
        try:
            while os.getppid() == self._parent:
                events = self._selector.select(self._patience())
                if any(not key.data and not self._receive() for key, _ in events):
                    return
                for key, _ in events:
                    if key.data:
                        self._collect(key.data)
                self._stop_overdue(heard={key.data.pid for key, _ in events if key.data})
                self._hand_out()
                self._report()
        finally:
            for one in self._workers:
                self._kill(one)

    def _patience(self) -> float:
        now = time.monotonic()
        deadlines = [one.deadline - now for one in self._workers if one.given]
        return max(0.0, min([_PARENT_CHECK_S, *deadlines]))

    def _receive(self) -> bool:
        """Take in what the parent has sent; False at the end of stdin."""
        data = os.read(sys.stdin.fileno(), 1 << 20)
        *lines, self._unread = (self._unread + data).split(b"\n")
        self._waiting.extend(lines)
        return bool(data)

    def _collect(self, one: _Worker) -> None:
        """Take in a worker's replies; replace it if it has ended."""
        try:
            data = one.channel.recv(1 << 16)
        except ConnectionError:
            data = b""
        *lines, one.unread = (one.unread + data).split(b"\n")
        for line in lines:
            if line + b"\n" == worker.RETIRING:
                one.retiring = True
            elif one.given and line.startswith(one.job() + b" "):
                one.given.popleft()
                one.begin(self._time_limit_s)
                self._done.append(line)
        if not data:
            self._replace(one, None if one.retiring else Reason.ERROR)

    def _stop_overdue(self, heard: set[int]) -> None:
        for one in list(self._workers):
            if one.given and one.pid not in heard and one.overdue(self._time_limit_s):
                self._replace(one, Reason.TIMED_OUT)

    def _replace(self, one: _Worker, blame: Reason | None) -> None:
        """End a worker, give ``blame`` to the comparison that it was at, put the rest back, and start another."""
        self._kill(one)
        if blame is not None and one.given:
            self._done.append(one.job() + b" " + json.dumps((blame.value, None)).encode())
            one.given.popleft()
        self._waiting.extendleft(reversed(one.given))
        self._workers[self._workers.index(one)] = self._start()

    def _start(self) -> _Worker:
        ours, theirs = socket.socketpair()
        one = _Worker(pid=worker.start(ours, theirs, self._memory_limit_mb, self._compare), channel=ours)
        self._selector.register(ours, selectors.EVENT_READ, one)
        return one

    def _kill(self, one: _Worker) -> None:
        self._selector.unregister(one.channel)
        one.channel.close()
        os.kill(one.pid, signal.SIGKILL)  # not yet waited for, so the id is still this child's
        os.waitpid(one.pid, 0)

    def _hand_out(self) -> None:
        """Give waiting comparisons, one by one, to the worker that has the fewest."""
        while self._waiting:
            one = min(self._workers, key=lambda each: len(each.given))
            if not one.takes(self._waiting[0]):
                return
            if not one.given:
                one.begin(self._time_limit_s)
            one.given.append(self._waiting.popleft())
            try:
                one.channel.sendall(one.given[-1] + b"\n")
            except ConnectionError:
                self._waiting.appendleft(one.given.pop())
                return  # it has ended; the selector says so next

    def _report(self) -> None:
        write_all(sys.stdout.fileno(), b"".join(line + b"\n" for line in self._done))
        self._done.clear()


def main(workers: str, time_limit_s: str, memory_limit_mb: str, kind: str = "") -> None:
    """Load what compares, then serve the parent process."""
    if kind:
        compare = worker.by_score(prepare_scorer(kind))
    else:
        algebra.prepare()
        compare = algebra.compare
    gc.collect()
    gc.freeze()
    write_all(sys.stdout.fileno(), READY)
    Supervisor(int(workers), float(time_limit_s), int(memory_limit_mb), compare).serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
