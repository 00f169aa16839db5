"""The processes of a run: which one failed first, and none left at the end, nor what they leave behind.

Ray, its workers and vLLM's engines start processes of processes. The main process makes itself their subreaper, so that
orphans come back to it; it watches them while the run is on, and ends all of them, and their temporary files, with it.

A part is known by its title *and* its place (:data:`~verl.mix_src.upstream.PLACES`). A title alone says little: a forked child (a
data-loader worker, a worker of ``datasets``, a compiler between fork and exec) has the title of its parent until it takes another. So
a part of Ray is what Ray's node manager or the fork server started itself, and an engine of vLLM is what a rollout server started; what lies below
them is theirs, and may come and go.
"""

from __future__ import annotations

import ctypes
import itertools
import logging
import os
import re
import shutil
import signal
import stat
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psutil

from verl.mix_src.upstream import ENDS_FIRST, PLACES, SOCKET_PREFIX, SOCKETS, TITLED

logger = logging.getLogger(__name__)

PR_SET_CHILD_SUBREAPER = 36  # from linux/prctl.h
GRACE_S = 4.0  # between asking a process to end and killing it
GIVE_UP_S = 60.0  # a process in the middle of a system call, or another user's, may not end at all
REACTION_S = 5.0  # veRL's own error comes first where it notices a lost worker by itself
UNWOUND_WITHIN_S = 20.0  # from the interrupt of a main thread to its end
EXIT_UNMOVED = 1
POLL_S = 1.0
MEMORY_EVERY_POLLS = 10  # the kernel walks all pages of a process to tell its proportional set size
SHARED_MEMORY = Path("/dev/shm")
RUN_NAME = "LUFFY_RUN_NAME"  # environment variable of every process of a run, on all nodes


@dataclass
class Watch:
    """What the watching thread has seen.

    Attributes:
        first_failure: what happened first: the part that ended before the run did, or the phase that stalled; or None.
        started: names of the parts seen so far, in order of their start.
        peak_memory_bytes: largest sum of proportional set sizes over this process and all its descendants.
        stacks: where the part that is waited for stands, some lines; empty where no phase stalled.
    """

    first_failure: str | None = None
    started: list[str] = field(default_factory=list)
    peak_memory_bytes: int = 0
    stacks: str = ""
    ending: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def stop(self) -> None:
        """Look a last time at what the processes use, and then no longer: what ends from now on may end."""
        self.ending.set()
        if self.thread is not None:
            self.thread.join()


Parts = Mapping[psutil.Process, str]


class Stalls(Protocol):
    """What measures the phases of a run, once at each look of the watch."""

    stacks: str

    def look(self, parts: Parts) -> str | None:
        """A line where a phase has taken too long."""


@contextmanager
def supervised(elsewhere: Callable[[], Mapping[str, str]] = dict, stalls: Stalls | None = None) -> Iterator[Watch]:
    """Run the body as the owner of all processes that it starts.

    Ctrl-C, SIGTERM, the loss of a worker and a stall raise KeyboardInterrupt in the body; where it does not come to its end then, the
    processes are ended without it, and at last this one. On leaving, every descendant is ended,
    the run's temporary folder is removed, and so is what the run left in shared memory.

    Args:
        elsewhere: tells which parts live that are not descendants, by any key; the loss of one ends the run as well.
        stalls: measures the phases; None: they may take any time.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    shared_memory = SharedMemory()
    folder = tempfile.mkdtemp(prefix="luffy-")
    previous_folder = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    previous = [(number, signal.signal(number, signal.default_int_handler)) for number in (signal.SIGINT, signal.SIGTERM)]
    watch = Watch()
    watch.thread = threading.Thread(target=_watch, args=(watch, shared_memory, elsewhere, stalls), name="watch", daemon=True)
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


def _watch(watch: Watch, shared_memory: SharedMemory, elsewhere: Callable[[], Mapping[str, str]], stalls: Stalls | None) -> None:
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
        here = parts(processes)
        living = {**elsewhere(), **here}
        known = living | known  # a part keeps its first name: Ray changes the titles of its workers
        watch.started += [name for name in dict.fromkeys(known.values()) if name not in watch.started]
        lost = [name for part, name in known.items() if part not in living and name not in ENDS_FIRST and not _alive(part)]
        if lost and watch.first_failure is None and not watch.ending.is_set():
            watch.first_failure = f"{lost[0]} ended"
            shared_memory.note(processes)
            if not watch.ending.wait(REACTION_S):
                _interrupt(watch)
        if stalls is not None and watch.first_failure is None and (stalled := stalls.look(here)) and not watch.ending.is_set():
            watch.first_failure, watch.stacks = stalled, stalls.stacks
            shared_memory.note(processes)
            _interrupt(watch)


def _interrupt(watch: Watch) -> None:
    """Interrupt the main thread; where it does not come to its end (a call that waits for ever), end the run without it."""
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # a real one, which ends any waiting
    if watch.ending.wait(UNWOUND_WITHIN_S):
        return
    end_descendants()
    if not watch.ending.wait(UNWOUND_WITHIN_S):
        sys.stderr.write(f"error: {watch.first_failure}; the main process did not react\n")  # into the log
        sys.stderr.flush()
        os._exit(EXIT_UNMOVED)


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


def within(seconds: float, work: Callable[[], None]) -> None:
    """Do what may never end in a thread of its own, and wait for it so long."""
    thread = threading.Thread(target=work, name="within", daemon=True)
    thread.start()
    thread.join(seconds)


def parts(processes: Iterable[psutil.Process]) -> dict[psutil.Process, str]:
    """The parts among all processes below the run's main one, and what a person calls them, from the top of the tree to the bottom."""
    looked_at = list(processes)
    seen = {process.pid: found for process in looked_at if (found := _look(process))}
    return {process: name for process in looked_at if process.pid in seen and (name := _name(process.pid, seen))}


def _look(process: psutil.Process) -> tuple[str | None, int] | None:
    """Title, where it is one of those that Ray and vLLM give, or the fork server's program, and parent."""
    try:
        with process.oneshot():
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            words = (word.rsplit("/", 1)[-1] for word in (process.cmdline() or [process.name()])[:2])
            return next((word for word in words if word.startswith(TITLED)), None), process.ppid()
    except psutil.Error:
        return None  # ended while we looked


def _name(pid: int, seen: Mapping[int, tuple[str | None, int]]) -> str | None:
    title, above = seen[pid]
    if title is None:
        return None
    while above in seen and seen[above][0] is None:
        above = seen[above][1]
    title_above = seen[above][0] if above in seen else None
    for start, place, name in PLACES:
        if title.startswith(start):
            if title_above is None if place is None else (title_above or "").startswith(place):
                return name if title_above is None or _name(above, seen) else None
    return None


class SharedMemory:
    """The files in shared memory of one run: new since the start, this user's, and used by a process of the run when it was looked at."""

    def __init__(self) -> None:
        self._before, self._used = _names(), set[str]()

    def note(self, processes: Iterable[psutil.Process]) -> None:
        """Remember what ``processes`` of the run use."""
        self._used |= {name for process in processes for name in _used_by(process.pid)} - self._before

    def remove_unused(self) -> None:
        """Remove the run's files that no living process uses any more."""
        left = {name for name in self._used & _names() if _is_own_file(SHARED_MEMORY / name)}
        if left:
            left -= {name for pid in psutil.pids() for name in _used_by(pid)}
        for name in left:
            (SHARED_MEMORY / name).unlink(missing_ok=True)


def _names() -> set[str]:
    try:
        return set(os.listdir(SHARED_MEMORY))
    except OSError:  # not there, or not for us
        return set()


def _is_own_file(file: Path) -> bool:
    try:
        status = file.lstat()
    except OSError:
        return False  # gone meanwhile
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()


def _used_by(pid: int) -> set[str]:
    """Names that a process has mapped or open; nothing of another user's process, which the system does not show."""
    try:
        maps = Path(f"/proc/{pid}/maps").read_text(errors="replace")
        handles = [os.readlink(entry) for entry in os.scandir(f"/proc/{pid}/fd")]
    except OSError:
        return set()  # ended while we looked, or another user's
    files = [*re.findall(rf"{SHARED_MEMORY}/.*", maps), *handles]
    return {Path(file).name for file in files if Path(file).parent == SHARED_MEMORY}


def new_run_name() -> str:
    """A name that no other run has, on this machine or another."""
    return uuid.uuid4().hex[:16]


def own_socket(address: str) -> str:
    """The address of veRL's weight-sync socket, with the run's name in it; unchanged in a plain run of veRL.

    veRL names the sockets by Ray's job id, which is the same in every fresh cluster: two runs that sync at one
    moment would take each other's messages, and both wait forever.
    """
    name = os.environ.get(RUN_NAME)
    return address.replace(SOCKET_PREFIX, f"luffy-sync-{name}-") if name else address


def remove_sockets(run_name: str) -> None:
    """Remove the sockets that a run has left on this machine, where it was cut off in a sync."""
    for file in Path(SOCKETS).glob(f"luffy-sync-{run_name}-*"):
        file.unlink(missing_ok=True)
