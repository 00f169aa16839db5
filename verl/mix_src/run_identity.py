"""What keeps two runs apart on one machine: each has a name of its own, and its folder to itself."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from luffy.errors import InputError

RUN_NAME = "LUFFY_RUN_NAME"  # environment variable of every process of a run, on all nodes
LOCK = ".in_use"
_SOCKETS, _UPSTREAM_PREFIX = Path("/tmp"), "rl-colocate-zmq-"


def new_run_name() -> str:
    """A name that no other run has, on this machine or another."""
    return uuid.uuid4().hex[:16]


def own_socket(address: str) -> str:
    """The address of veRL's weight-sync socket, with the run's name in it; unchanged in a plain run of veRL.

    veRL 0.9.1 names the sockets by Ray's job id, which is the same in every fresh cluster: two runs that sync at one
    moment would take each other's messages, and both wait forever.
    """
    name = os.environ.get(RUN_NAME)
    return address.replace(_UPSTREAM_PREFIX, _prefix(name)) if name else address


def remove_sockets(run_name: str) -> None:
    """Remove the sockets that a run has left on this machine, where it was cut off in a sync."""
    for file in _SOCKETS.glob(f"{_prefix(run_name)}*"):
        file.unlink(missing_ok=True)


def _prefix(run_name: str) -> str:
    return f"luffy-sync-{run_name}-"


@contextmanager
def folder_of_its_own(folder: Path) -> Iterator[None]:
    """Keep other runs out of ``folder`` during the body; the system lifts the lock when its holder ends, however it ends.

    Raises:
        InputError: where another run uses the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise InputError(
            f"another run uses the folder {folder}: wait for it, or give this one a name of its own (trainer.experiment_name=NAME)"
        ) from None
    try:
        yield
    finally:
        os.close(descriptor)
