"""A run's process tree without its work: real Ray, actors named as veRL's, and children of every kind that come and go.

``test_lifecycle.py`` runs it and reads what it says.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import ray
import torch

from verl.mix_src.run.processes import POLL_S, parts, supervised
from verl.mix_src.upstream import TITLED

FORKS, SHORT, LIVES_S = 40, 100, 1.5 * POLL_S  # so that every forked child is seen by one look at least


def fork_and_end(count: int) -> None:
    """Children with their parent's title, as those of ``datasets`` and of a compiler before exec."""
    children = []
    for _ in range(count):
        child = os.fork()
        if child == 0:
            time.sleep(LIVES_S)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


ENGINE = f"""
import os, sys, time, setproctitle
setproctitle.setproctitle("VLLM::EngineCore")
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        time.sleep({LIVES_S})
        os._exit(0)
for _ in range(int(sys.argv[1])):
    os.wait()
time.sleep(float(sys.argv[2]))
"""


def engine_process(forks: int, seconds: float) -> subprocess.Popen:
    """A process with the title of vLLM's engine, which forks children that end."""
    return subprocess.Popen([sys.executable, "-c", ENGINE, str(forks), str(seconds)])


class Squares(torch.utils.data.Dataset):
    """A little data for real data-loader workers."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        time.sleep(LIVES_S / 4)
        return index**2


class Busy:
    """Forks, loads data and calls programs."""

    def run(self) -> int:
        """Do so, and return the process id."""
        fork_and_end(FORKS)
        for _ in range(2):
            assert sum(torch.utils.data.DataLoader(Squares(), batch_size=None, num_workers=4)) == 140
        for _ in range(SHORT):
            subprocess.run(["true"], check=True)
        return os.getpid()


@ray.remote(num_cpus=0)
class TaskRunnerV1(Busy):
    """The trainer."""


@ray.remote(num_cpus=0)
class AgentLoopWorkerTQ(Busy):
    """An agent loop worker."""


@ray.remote(num_cpus=0)
class vLLMHttpServer:
    """A server with an engine, which forks as well."""

    def start(self) -> int:
        """Start the engine and return its process id."""
        return engine_process(FORKS, 600.0).pid


def _title(process: psutil.Process) -> str:
    try:
        return (process.cmdline() or [""])[0]
    except psutil.Error:
        return ""


def main() -> None:
    """Say what the watch makes of it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with supervised() as watch:
        ray.init(num_cpus=4, include_dashboard=False, object_store_memory=80_000_000, log_to_driver=False)
        server = vLLMHttpServer.remote()
        engine = ray.get(server.start.remote())
        workers = [TaskRunnerV1.remote(), AgentLoopWorkerTQ.remote()]
        running, seen = [worker.run.remote() for worker in workers], set()
        own = engine_process(0, LIVES_S)  # as an evaluation in this process starts its engine, which then ends
        while len(ray.wait(running, num_returns=2, timeout=0.2)[0]) < 2:
            below = psutil.Process().children(recursive=True)
            theirs = parts(below)
            seen |= {process.pid for process in below if process not in theirs and _title(process).startswith(TITLED)}
        ray.get(running)
        assert own.wait() == 0
        time.sleep(2 * POLL_S)
        sys.stdout.write(f"children that had a part's title: {len(seen)}\n")
        sys.stdout.write(f"failure after they ended: {watch.first_failure}\n")
        sys.stdout.write(f"parts: {'; '.join(watch.started)}\n")
        lost = time.monotonic()
        os.kill(engine, signal.SIGKILL)
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            sys.stdout.write(f"seconds until the interrupt: {time.monotonic() - lost:.1f}\n")
        sys.stdout.write(f"failure after the engine was killed: {watch.first_failure}\n")
        sys.stdout.flush()
        ray.shutdown()


if __name__ == "__main__":
    main()
