"""Files in shared memory that a run has made and that outlive its processes, without touching anybody else's."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

import psutil

FOLDER = Path("/dev/shm")


class SharedMemory:
    """The files of one run: new since the start, this user's, and used by a process of the run when it was looked at."""

    def __init__(self) -> None:
        self._before, self._used = _names(), set[str]()

    def note(self, processes: Iterable[psutil.Process]) -> None:
        """Remember what ``processes`` of the run use."""
        self._used |= {name for process in processes for name in _used_by(process.pid)} - self._before

    def remove_unused(self) -> None:
        """Remove the run's files that no living process uses any more."""
        left = {name for name in self._used & _names() if _is_own_file(FOLDER / name)}
        if left:
            left -= {name for pid in psutil.pids() for name in _used_by(pid)}
        for name in left:
            (FOLDER / name).unlink(missing_ok=True)


def _names() -> set[str]:
    try:
        return set(os.listdir(FOLDER))
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
    files = [*re.findall(rf"{FOLDER}/.*", maps), *handles]
    return {Path(file).name for file in files if Path(file).parent == FOLDER}
