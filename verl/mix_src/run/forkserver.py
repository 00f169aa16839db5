"""Ray's workers begin with their imports done: each is forked from one process that has imported what all of them need.

A start is imports for the most part: seven processes one after the other, ten seconds each. Ray starts a worker by a command, and the
command of its runtime environment (``py_executable``) is this file. It hands arguments, environment and files over to the fork server,
which forks and goes on as Ray's worker would; where no server answers, the worker starts as it always did.

For a run on one machine without a GPU: an import that asks whether there is one bars the forked child from it. The server has one thread of
Python's and no connection of Ray's; what a child inherits beyond its imports (signals, random states, limits, the folder) is set anew.

No title is set for the server: Ray's library, which sets those of its workers, would not find the place of theirs any more.

The top of this module imports Python's own library alone: as the command it has to be quick.
"""

from __future__ import annotations

import gc
import json
import os
import random
import resource
import runpy
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

BEFORE_RAY = (
    "tensordict", "transformers.models.auto.modeling_auto", "datasets", "peft", "math_verify", "vllm.engine.arg_utils",
    "vllm.entrypoints.openai.api_server",
)  # fmt: skip
WITH_RAY = ("verl.mix_src.rl.trainer", "verl.workers.rollout.vllm_rollout.vllm_async_server")
"""What takes Ray's workers of a run long to import between them: what does not import Ray, and the rest."""
READ_AT_LOAD = ("RAY_JOB_ID", "RAY_RAYLET_PID")
SERVE, LENGTH_BYTES, TAKEN = "--serve", 8, b"1"
FILES = (0, 1, 2)
DEFAULT_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE)
PR_SET_PDEATHSIG = 1  # from linux/prctl.h


class ForkServer:
    """A server that was started, which ends with this process.

    Args:
        environment: of all workers; some of it is read at an import.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        import atexit
        import shutil
        from tempfile import mkdtemp

        address = Path(mkdtemp(prefix="luffy-forks-")) / "socket"  # a folder of this user alone
        atexit.register(shutil.rmtree, address.parent, ignore_errors=True)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(address))
            listening.listen(128)  # who asks before the imports are done waits
            command = [sys.executable, __file__, SERVE, str(listening.fileno()), str(os.getpid())]
            streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # a worker brings its own
            self._process = subprocess.Popen(command, env={**os.environ, **environment}, pass_fds=[listening.fileno()], **streams)
        self.command = shlex.join([sys.executable, "-S", "-E", __file__, str(address)])
        """What stands for Python in Ray's runtime environments."""

    def is_up(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None


def serve(handle: int, owner: int) -> None:
    """Import, then fork a worker for each request, until the process that started this one ends; returns in the workers alone.

    Ray's library reads the variables of a worker when it is loaded, and keeps them. So what needs no Ray is imported at once, the rest with
    the first worker's variables, and a worker of another job or node manager is declined.

    Args:
        handle: of the listening socket.
        owner: process id of the one that started this one.
    """
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != owner:  # it has ended before that
        return
    del sys.path[0]  # this file's folder
    from luffy import vllm_cpu

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended workers leave nothing behind
    vllm_cpu.prepare()
    for name in BEFORE_RAY:
        import_module(name)
    of_ray = None
    with socket.socket(fileno=handle) as listening:
        while True:
            connection, _ = listening.accept()
            with connection:
                request, files = _receive(connection)
                if request is None:
                    continue
                if of_ray is None:
                    of_ray = _of_ray(request)
                    _import_with(request["environment"])
                if _of_ray(request) == of_ray:
                    if os.fork() == 0:
                        break
                    with suppress(OSError):  # who asked was ended meanwhile
                        connection.sendall(TAKEN)
                for each in files:
                    os.close(each)
    _become(request, files)


def _of_ray(request: dict[str, Any]) -> list[str | None]:
    return [request["environment"].get(name) for name in READ_AT_LOAD]


def _import_with(environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    with _untouched_generator():
        for name in WITH_RAY:
            import_module(name)
    gc.collect()
    gc.freeze()  # what is imported stays shared


@contextmanager
def _untouched_generator() -> Iterator[None]:
    """Let Ray's generator of ids begin in the forks: begun before, it would give all of them the same ids, those of tasks among them.

    At an import it draws an id for each class that is decorated as an actor; here the system draws these.
    """
    import ray.actor

    upstream = ray.actor.ActorClassID
    ray.actor.ActorClassID = SimpleNamespace(from_random=lambda: upstream(os.urandom(upstream.size())))
    yield
    ray.actor.ActorClassID = upstream


def _become(request: dict[str, Any], files: list[int]) -> None:
    """Run the worker's own program in this process, as its command would have."""
    for given, own in zip(files, FILES, strict=True):
        os.dup2(given, own)
        os.close(given)
    for number in DEFAULT_SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked_signals"])
    resource.setrlimit(resource.RLIMIT_NOFILE, tuple(request["open_files"]))
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    program, *_ = sys.argv = request["command"]
    sys.path.insert(0, str(Path(program).parent))
    runpy.run_path(program, run_name="__main__")


def _receive(connection: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """A request whole, or None where the other end has gone."""
    files, size, body = [], -1, bytearray()
    with suppress(OSError):
        head, files, _, _ = socket.recv_fds(connection, LENGTH_BYTES, len(FILES))
        size = int.from_bytes(head, "big")
        while len(body) < size and (more := connection.recv(size - len(body))):
            body += more
    if len(files) == len(FILES) and len(body) == size:
        return json.loads(body), files
    for each in files:
        os.close(each)
    return None, []


def _ask(address: str, command: list[str]) -> bool:
    """Hand this process's part over; whether a server took it."""
    request = {
        "command": command,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "blocked_signals": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
    }
    body = json.dumps(request).encode()
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.connect(address)
            socket.send_fds(server, [len(body).to_bytes(LENGTH_BYTES, "big")], FILES)
            server.sendall(body)
            return server.recv(1) == TAKEN
    except OSError:
        return False


def main() -> None:
    """``forkserver.py SOCKET PROGRAM [arguments]``: run a Python program in a fork of the server, or else in this process."""
    address, *command = sys.argv[1:]
    if address == SERVE:
        serve(*map(int, command))
    elif not _ask(address, command):
        os.execv(sys.executable, [sys.executable, *command])


if __name__ == "__main__":
    main()
