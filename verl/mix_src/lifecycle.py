"""The processes of a run: which one failed first, and none left at the end.

Ray, its workers and vLLM's engines start processes of processes. The main process makes itself their subreaper, so that
orphans come back to it; it watches them while the run is on, and ends all of them, and their temporary files, with it.
"""

from __future__ import annotations

import ctypes
import itertools
import logging
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

from verl.mix_src.parts import ENDS_FIRST, parts
from verl.mix_src.shared_memory import SharedMemory

logger = logging.getLogger(__name__)

PR_SET_CHILD_SUBREAPER = 36  # from linux/prctl.h
GRACE_S = 4.0  # between asking a process to end and killing it
GIVE_UP_S = 60.0  # a process in the middle of a system call, or another user's, may not end at all
REACTION_S = 5.0  # veRL's own error comes first where it notices a lost worker by itself
POLL_S = 1.0
MEMORY_EVERY_POLLS = 10  # the kernel walks all pages of a process to tell its proportional set size


@dataclass
class Watch:
    """What the watching thread has seen.

    Attributes:
        first_failure: name of the part that ended before the run did, or None.
        started: names of the parts seen so far, in order of their start.
        peak_memory_bytes: largest sum of proportional set sizes over this process and all its descendants.
    """

    first_failure: str | None = None
    started: list[str] = field(default_factory=list)
    peak_memory_bytes: int = 0
    ending: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def stop(self) -> None:
        """Look a last time at what the processes use, and then no longer: what ends from now on may end."""
        self.ending.set()
        if self.thread is not None:
            self.thread.join()


@contextmanager
def supervised(elsewhere: Callable[[], Mapping[str, str]] = dict) -> Iterator[Watch]:
    """Run the body as the owner of all processes that it starts.

    Ctrl-C, SIGTERM and the loss of a worker raise KeyboardInterrupt in the body. On leaving, every descendant is ended,
    the run's temporary folder is removed, and so is what the run left in shared memory.

    Args:
        elsewhere: tells which parts live that are not descendants, by any key; the loss of one ends the run as well.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    shared_memory = SharedMemory()
    folder = tempfile.mkdtemp(prefix="luffy-")
    previous_folder = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    previous = [(number, signal.signal(number, signal.default_int_handler)) for number in (signal.SIGINT, signal.SIGTERM)]
    watch = Watch()
    watch.thread = threading.Thread(target=_watch, args=(watch, shared_memory, elsewhere), name="watch", daemon=True)
    watch.thread.start()
    try:
        yield watch
    finally:
        for number, _ in previous:
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave processes behind
        watch.stop()
        end_descendants()
        shared_memory.remove_unused()
        for number, handler in previous:
            signal.signal(number, handler)
        tempfile.tempdir = None
        os.environ.pop("TMPDIR") if previous_folder is None else os.environ.update(TMPDIR=previous_folder)
        shutil.rmtree(folder, ignore_errors=True)


def end_descendants() -> None:
    """Ask every descendant to end, then kill those that still run; also those that appear meanwhile."""
    asked: set[int] = set()
    start = time.monotonic()
    while processes := _descendants():
        late = time.monotonic() - start > GRACE_S
        for process in processes:
            if late or process.pid not in asked:
                asked.add(process.pid)
                _signal(process, signal.SIGKILL if late else signal.SIGTERM)
        psutil.wait_procs(processes, timeout=0.2)
        if time.monotonic() - start > GIVE_UP_S:
            logger.warning("%d processes of the run did not end: %s", len(processes), [each.pid for each in processes])
            return


def _descendants() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.Error:
        pass  # ended meanwhile, or runs as another user


def _watch(watch: Watch, shared_memory: SharedMemory, elsewhere: Callable[[], Mapping[str, str]]) -> None:
    known: dict[psutil.Process | str, str] = {}
    for poll in itertools.count():
        if watch.ending.wait(POLL_S):
            shared_memory.note(_descendants())
            return
        processes = _descendants()
        if poll % MEMORY_EVERY_POLLS == 0:
            memory = sum(map(_memory_bytes, [psutil.Process(), *processes]))
            watch.peak_memory_bytes = max(watch.peak_memory_bytes, memory)
            shared_memory.note(processes)
        living = {**elsewhere(), **parts(processes)}
        known = living | known  # a part keeps its first name: Ray changes the titles of its workers
        watch.started += [name for name in dict.fromkeys(known.values()) if name not in watch.started]
        lost = [name for part, name in known.items() if part not in living and name not in ENDS_FIRST and not _alive(part)]
        if lost and watch.first_failure is None and not watch.ending.is_set():
            watch.first_failure = f"{lost[0]} ended"
            shared_memory.note(processes)
            if not watch.ending.wait(REACTION_S):
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # a real one, which ends any waiting


def _alive(part: psutil.Process | str) -> bool:
    try:
        return isinstance(part, psutil.Process) and part.is_running() and part.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _memory_bytes(process: psutil.Process) -> int:
    try:
        return process.memory_full_info().pss
    except psutil.Error:
        return 0  # ended while we looked
