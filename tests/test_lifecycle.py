"""The processes of a run: what is lost and what only ends, and that nobody else's files are touched."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest

from luffy.errors import InputError
from verl.mix_src.run.folder import folder_of_its_own
from verl.mix_src.run.processes import RUN_NAME, SHARED_MEMORY, new_run_name, own_socket, parts, remove_sockets, supervised
from verl.mix_src.upstream import PLACES

NOBODY = 65534
DRIVER = Path(__file__).parent / "watched_run.py"
NOTICED_WITHIN_S = 10


@pytest.fixture(scope="module")
def watched() -> dict[str, str]:
    """What ``watched_run.py`` says: real Ray, a hundred children that come and go, then an engine that is killed."""
    done = subprocess.run([sys.executable, DRIVER], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)


@pytest.mark.integration
@pytest.mark.alone
def test_helpers_that_end_are_no_loss(watched: dict[str, str]) -> None:
    assert int(watched["children that had a part's title"]) > 100
    assert watched["failure after they ended"] == "None"
    assert {"Ray's head", "Ray's node manager", "the trainer", "an agent loop worker"} <= set(watched["parts"].split("; "))
    assert watched["parts"].split("; ").count("a rollout engine (vLLM)") == 1  # of the server, and not of the driver


@pytest.mark.integration
@pytest.mark.alone
def test_lost_engine_is_noticed(watched: dict[str, str]) -> None:
    assert watched["failure after the engine was killed"] == "a rollout engine (vLLM) ended"
    assert float(watched["seconds until the interrupt"]) < NOTICED_WITHIN_S


def _title(title: str, body: str = "time.sleep(60)") -> str:
    return f"import os, subprocess, sys, time, setproctitle; setproctitle.setproctitle({title!r}); {body}"


def test_place_decides_beside_the_title() -> None:
    """A tree of real processes with Ray's and vLLM's titles, none of which is where such a part would be."""
    child = _title("ray::WorkerDict")
    tree = _title("ray::TaskRunnerV1.run", f"subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)")
    processes = [subprocess.Popen([sys.executable, "-c", code]) for code in (tree, _title("VLLM::EngineCore"), _title("ray::IDLE"))]
    try:
        deadline = time.monotonic() + 60
        while sum(_is_titled(each) for process in processes for each in _with_descendants(process.pid)) < 4:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert parts(psutil.Process().children(recursive=True)) == {}
    finally:
        for process in processes:
            for each in _with_descendants(process.pid):
                each.kill()
            process.wait()


def _with_descendants(pid: int) -> list[psutil.Process]:
    return [process := psutil.Process(pid), *process.children(recursive=True)]


def _is_titled(process: psutil.Process) -> bool:
    return "::" in " ".join(process.cmdline()[:1])


def test_every_place_but_the_top_is_a_part_itself() -> None:
    starts = [start for start, _, _ in PLACES]
    assert all(place is None or place in starts for _, place, _ in PLACES)


@pytest.fixture
def files() -> dict[str, Path]:
    """Names in shared memory, gone after the test."""
    found = {name: SHARED_MEMORY / f"luffy-test-{uuid.uuid4().hex}" for name in ("own", "unused", "foreign", "before")}
    yield found
    for file in found.values():
        file.unlink(missing_ok=True)


def _use(files: dict[str, Path]) -> None:
    """A run whose process has files open, of which it has not made all."""
    with supervised():
        for name in ("own", "unused", "foreign"):
            files[name].write_text("newer than the run")
        if os.geteuid() == 0:
            os.chown(files["foreign"], NOBODY, NOBODY)
        names = [str(files[name]) for name in ("own", "foreign", "before")]
        holder = subprocess.Popen(
            [sys.executable, "-c", "import sys, time; held = [open(name) for name in sys.argv[1:]]; print(flush=True); time.sleep(60)", *names],
            stdout=subprocess.PIPE,
        )  # fmt: skip
        holder.stdout.readline()


def test_only_own_files_that_the_run_used_are_removed(files: dict[str, Path]) -> None:
    files["before"].write_text("was there")
    _use(files)
    left = {name for name, file in files.items() if file.exists()}
    assert left == {"unused", "before"} | ({"foreign"} if os.geteuid() == 0 else set())  # only root can make one of another user


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
def test_an_ordinary_user_leaves_roots_files(files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of shared memory is sticky: removing another's file is a PermissionError, which must not end the ending."""
    monkeypatch.setenv("TMPDIR", "/tmp")
    files["before"].write_text("was there")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            with supervised():
                files["own"].touch()
                while not files["foreign"].exists():
                    time.sleep(0.05)
                subprocess.Popen(["sleep", "60"], stdin=files["own"].open(), stdout=subprocess.DEVNULL)
                subprocess.Popen(["sleep", "60"], stdin=files["foreign"].open(), stdout=subprocess.DEVNULL)
            code = 0
        finally:
            os._exit(code)
    while not files["own"].exists():
        time.sleep(0.05)
    files["foreign"].write_text("of root, and newer than the run")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert files["foreign"].exists() and not files["own"].exists()


def test_sockets_of_two_runs_differ_and_are_removed_with_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    upstream = "ipc:///tmp/rl-colocate-zmq-01000000-replica-0-rank-0.sock"
    monkeypatch.delenv(RUN_NAME, raising=False)
    assert own_socket(upstream) == upstream  # a plain run of veRL in the same environment
    names, files = (new_run_name(), new_run_name()), []
    for name in names:
        monkeypatch.setenv(RUN_NAME, name)
        address = own_socket(upstream)
        assert address == own_socket(upstream) and len(address.removeprefix("ipc://")) < 107  # the system's limit
        files.append(Path(address.removeprefix("ipc://")))
        files[-1].touch()
    remove_sockets(names[0])
    assert [file.exists() for file in files] == [False, True]
    remove_sockets(names[1])
    assert not files[1].exists()


def test_a_folder_has_one_run(tmp_path: Path) -> None:
    ready, tell = os.pipe()
    holder = os.fork()
    if holder == 0:
        with folder_of_its_own(tmp_path):
            os.write(tell, b"mine")
            time.sleep(600)
    assert os.read(ready, 4) == b"mine"
    with pytest.raises(InputError, match="another run uses the folder"), folder_of_its_own(tmp_path):
        pass
    os.kill(holder, signal.SIGKILL)  # however it ends
    os.waitpid(holder, 0)
    with folder_of_its_own(tmp_path):
        pass


def test_a_file_system_without_locks_is_no_other_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    """Lustre mounted without flock: the system's call says ENOSYS there."""

    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with folder_of_its_own(tmp_path):
        pass
    assert "has no locks (Function not implemented)" in caplog.text
