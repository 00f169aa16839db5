"""The fork server of Ray's workers: what a forked worker has and does, beside one that starts by itself; with real processes and real Ray."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from data_sets import ROOT

from luffy import vllm_cpu
from verl.mix_src.run import forkserver
from verl.mix_src.run.processes import parts
from verl.mix_src.upstream import FORK_SERVER

needs_cpu_build = pytest.mark.skipif(not vllm_cpu.is_cpu_build(), reason="the distribution vllm-cpu is not installed")
pytestmark = [pytest.mark.integration, needs_cpu_build]
OF_RAY = {"RAY_JOB_ID": "01000000", "RAY_RAYLET_PID": "1"}
PROGRAM = """
import json, os, random, signal, sys
loaded, path = "verl" in sys.modules, sys.path[0]
import numpy, ray
print(json.dumps({
    "arguments": sys.argv[1:], "name": __name__, "path": path, "folder": os.getcwd(), "loaded": loaded, "pid": os.getpid(),
    "parent": os.getppid(), "secret": os.environ.get("SECRET"), "home": os.environ.get("ONLY_OF_THE_SERVER"),
    "blocked": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))), "interrupt": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
    "child": signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL, "drawn": [random.random(), numpy.random.rand(), ray.NodeID.from_random().hex()],
}))
sys.exit(3)
"""


class Server:
    """One server, started by a process of its own, which can be killed."""

    def __init__(self) -> None:
        code = (
            "from verl.mix_src.run import forkserver; import time, sys; "
            "print(forkserver.ForkServer({'ONLY_OF_THE_SERVER': '1'}).command, flush=True); time.sleep(1000)"
        )
        self.owner = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self.command = shlex.split(self.owner.stdout.readline())
        (self.process,) = psutil.Process(self.owner.pid).children()

    def run(self, program: Path, *arguments: str, **environment: str) -> dict:
        variables = {name: value for name, value in os.environ.items() if name != "ONLY_OF_THE_SERVER"} | OF_RAY | environment
        output = subprocess.run(
            [*self.command, str(program), *arguments], cwd=program.parent, env=variables, capture_output=True, text=True, timeout=120,
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGINT}),  # as Ray's node manager
        )  # fmt: skip
        return json.loads(output.stdout)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.owner.kill()
    found.owner.wait()


@pytest.fixture
def program(tmp_path) -> Path:
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    return file


def test_a_forked_program_is_as_one_that_starts_by_itself_but_for_its_imports(server, program):
    alone = subprocess.run([sys.executable, program, "--a", "b c"], capture_output=True, text=True, cwd=program.parent).stdout
    alone, forked = json.loads(alone), server.run(program, "--a", "b c", SECRET="über")
    same = ("arguments", "name", "path", "folder", "interrupt", "child", "home")
    assert {name: forked[name] for name in same} == {name: alone[name] for name in same}
    assert forked["home"] is None and forked["interrupt"] and forked["child"] and forked["name"] == "__main__"
    assert (alone["loaded"], forked["loaded"]) == (False, True)
    assert (alone["blocked"], forked["blocked"]) == ([], [signal.SIGINT])
    assert forked["parent"] == server.process.pid and forked["secret"] == "über"


def test_two_forked_programs_draw_different_random_numbers(server, program):
    """The last is an id of Ray's: its library has a generator of its own."""
    first, second = (server.run(program)["drawn"] for _ in range(2))
    assert [one == other for one, other in zip(first, second, strict=True)] == [False] * 3


def test_a_worker_of_another_node_manager_starts_by_itself(server, program):
    server.run(program)  # the first one decides whose server it is
    other = server.run(program, RAY_RAYLET_PID="2")
    assert not other["loaded"] and other["parent"] != server.process.pid


def test_a_request_that_breaks_off_costs_the_server_nothing(server, program):
    for sent in (b"", b"abc", (10).to_bytes(8, "big") + b"{"):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(server.command[-1])
            client.sendall(sent)
    assert server.run(program)["parent"] == server.process.pid


def test_without_a_server_a_program_starts_by_itself(tmp_path, program):
    command = [sys.executable, "-S", "-E", forkserver.__file__, str(tmp_path / "no socket"), str(program), "x"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True).stdout)
    assert not found["loaded"] and found["arguments"] == ["x"] and found["parent"] == os.getpid()


def test_the_server_serves_its_user_alone_and_is_a_part_of_the_run(server):
    folder = Path(server.command[-1]).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    assert Path(forkserver.__file__).name == FORK_SERVER
    assert parts([server.process]) == {server.process: "the fork server of Ray's workers"}


def test_the_server_ends_with_the_process_that_started_it(program):
    server = Server()
    server.owner.kill()
    server.owner.wait()
    deadline = time.monotonic() + 30
    while server.process.is_running() and server.process.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not server.run(program)["loaded"]


def test_no_module_before_ray_imports_ray():
    """Ray's library keeps the variables that it finds when it is loaded, the job's id among them."""
    code = f"""
import sys
from importlib import import_module
from luffy import vllm_cpu
vllm_cpu.prepare()
for name in {forkserver.BEFORE_RAY!r}:
    import_module(name)
before = "ray" in sys.modules
for name in {forkserver.WITH_RAY!r}:
    import_module(name)
import os
print(before, "ray" in sys.modules, len([each for each in os.listdir("/proc/self/task")]))
"""
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True
    )
    output = output.stdout.split()
    assert output[-3:-1] == ["False", "True"]
    assert int(output[-1]) <= 2  # this one, and jemalloc's, which comes back after a fork
