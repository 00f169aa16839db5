"""One training with a Ray cluster of its own at a time on a machine.

veRL 0.9.1 sends weights to vLLM through a socket in ``/tmp`` that is named by Ray's job id, which is the same in every fresh
cluster: two runs that happen to sync at one moment take each other's messages, and both wait forever.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SoleRun:
    """A lock on a file, which the system lifts when its holder ends, however it ends.

    Attributes:
        file: shared by all users of the machine.
    """

    file: Path

    def is_free(self) -> bool:
        """Whether nobody holds it."""
        with self.held() as mine:
            return mine

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Hold it during the body, if nobody else does; yields whether that is so."""
        create = 0 if self.file.exists() else os.O_CREAT  # another user's file is not ours to create in /tmp
        descriptor = os.open(self.file, os.O_RDONLY | create, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = True
        except BlockingIOError:
            mine = False
        try:
            yield mine
        finally:
            os.close(descriptor)


SOLE_RUN = SoleRun(Path("/tmp/rl-colocate-zmq.lock"))  # beside veRL's sockets
