"""A Ray cluster of two nodes on this machine, started by README's commands: checks, a training, and what is lost."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from ray._private.authentication_test_utils import reset_auth_token_state

from luffy.errors import InputError
from verl.mix_src.run import nodes

pytestmark = [pytest.mark.integration, pytest.mark.alone]

ROOT = Path(__file__).resolve().parent.parent
DRIVER = Path(__file__).parent / "watched_cluster.py"
RAY = Path(sys.executable).with_name("ray")
SIZE = ["--num-cpus=16", "--num-gpus=1", "--object-store-memory=150000000", "--disable-usage-stats"]
STEPS = 2


class Cluster:
    """Two raylets, each with its folder, its environment and one logical GPU.

    Attributes:
        environment: of a command that joins the cluster.
        nodes: ``ray start --block`` of the head and of the other.
    """

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.folder, self.nodes = folder, []
        (folder / "token").write_text("0123456789abcdef" * 4)
        self.environment = {**os.environ, "RAY_ADDRESS": f"127.0.0.1:{port}", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
        self.start("--head", f"--port={port}", f"--temp-dir={folder}", "--include-dashboard=false")
        self.start(f"--address=127.0.0.1:{port}")

    def start(self, *arguments: str, before: tuple[str, ...] = (), **environment: str) -> subprocess.Popen:
        """Start a node in a working directory of its own, and wait until Ray says that it runs."""
        log = self.folder / f"node{len(self.nodes)}.log"
        settings = {name: value for name, value in self.environment.items() if name != "RAY_ADDRESS"}
        settings |= {"RAY_AUTH_MODE": "token"} | environment
        with log.open("w") as output:
            node = subprocess.Popen(
                [*before, RAY, "start", "--block", *SIZE, *arguments], cwd="/", env=settings, stdout=output, stderr=output
            )
        self.nodes.append(node)
        deadline = time.monotonic() + 180
        while "Ray runtime started" not in log.read_text():
            assert node.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        return node

    def end(self, node: subprocess.Popen) -> None:
        """End a node and all that it started."""
        below = psutil.Process(node.pid).children(recursive=True)
        node.terminate()
        _, alive = psutil.wait_procs(below, timeout=20)
        for process in alive:
            process.kill()
        node.wait()
        self.nodes.remove(node)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes on this machine."""
    folder = Path(tempfile.mkdtemp(prefix="luffy-nodes-", dir="/tmp"))  # short: the system limits the length of a socket's name
    made = Cluster(folder)
    yield made
    for node in reversed(made.nodes[:]):
        made.end(node)
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def open_head(cluster: Cluster) -> Iterator[str]:
    """The address of another cluster, of one node, that asks for no token."""
    folder = Path(tempfile.mkdtemp(prefix="luffy-open-", dir="/tmp"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    head = cluster.start("--head", f"--port={port}", f"--temp-dir={folder}", "--include-dashboard=false", RAY_AUTH_MODE="disabled")
    try:
        yield f"127.0.0.1:{port}"
    finally:
        cluster.end(head)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def joined(cluster: Cluster, config, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The cluster, for this process as for a run: with its address and token, the mode left to the run."""
    with monkeypatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")  # so that it is unset again at the end, whoever sets it
        patch.delenv("RAY_AUTH_MODE")
        for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN_PATH"):
            patch.setenv(name, cluster.environment[name])
        reset_auth_token_state()
        nodes.prepare_to_join(config)
        yield cluster
    reset_auth_token_state()


def overrides(example, folder: Path) -> list[str]:
    return [
        "profile=cpu", "trainer.nnodes=2", f"trainer.total_training_steps={STEPS}", f"trainer.save_freq={STEPS}",
        "trainer.test_freq=-1", "trainer.val_before_train=false", f"trainer.default_local_dir={folder}",
        *(f"data.{key}={os.path.relpath(value, ROOT)}" for key, value in
          {"train_files": example.train, "val_files": example.heldout}.items()),
        f"actor_rollout_ref.model.path={os.path.relpath(example.model, ROOT)}",
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=64", "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=64",
    ]  # fmt: skip


@pytest.fixture
def config(tiny_example, tmp_path):
    """A config of two nodes with absolute paths."""
    with initialize_config_module("verl.mix_src.config", version_base=None):
        return nodes.absolute_paths(compose("mix_ppo", overrides=overrides(tiny_example, tmp_path / "run")))


def test_two_machines_that_are_ready(joined: Cluster, config, tmp_path: Path) -> None:
    assert len(nodes.check_cluster(config)) == 56  # Ray's id of a node in hexadecimal digits
    assert list((tmp_path / "run").iterdir()) == []


def test_a_cluster_that_asks_for_no_token_is_refused(joined: Cluster, config, tmp_path: Path) -> None:
    assert nodes.asks_for_token(joined.environment["RAY_ADDRESS"])
    with open_head(joined) as address, pytest.MonkeyPatch.context() as patch:  # of its own: undone before that of `joined`
        assert not nodes.asks_for_token(address)
        one = OmegaConf.merge(config, {"trainer": {"nnodes": 1}})
        patch.setenv("RAY_ADDRESS", address)
        with pytest.raises(InputError, match=r"asks for no token, .*RAY_AUTH_MODE=token.*luffy\.safety\.open_cluster=true"):
            nodes.check_cluster(one)
        nodes.check_cluster(OmegaConf.merge(one, {"luffy": {"safety": {"open_cluster": True}}}))


@pytest.mark.soak
def test_training_in_a_cluster_that_asks_for_no_token(cluster: Cluster, tiny_example, tmp_path: Path) -> None:
    """Refused without a word of the user's, and else as in any other."""
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "verl.mix_src.main_mix_ppo", *overrides(tiny_example, folder), "trainer.nnodes=1"]
    with open_head(cluster) as address:
        environment = {name: value for name, value in cluster.environment.items() if not name.startswith("RAY_AUTH")}
        environment["RAY_ADDRESS"] = address
        for extra, code in ([], 2), (["luffy.safety.open_cluster=true"], 0):
            done = subprocess.run([*command, *extra], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
            assert done.returncode == code, done.stderr[-2000:]
            assert ("asks for no token" in done.stderr) == (code == 2)
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2]
    assert all(record["data"]["off_policy/reward"] == 1.0 for record in records)


def test_too_few_gpus(joined: Cluster, config) -> None:
    with pytest.raises(InputError, match=r"trainer\.nnodes=3 machines .* start more"):
        nodes.check_cluster(OmegaConf.merge(config, {"trainer": {"nnodes": 3}}))


@pytest.mark.parametrize(
    ("gpus", "lacks"), [((8, 8), None), ((8,), "actor_rollout_ref.rollout"), ((4, 4), None), ((2, 8), None), ((2, 2), "trainer")]
)
def test_both_pools_must_find_their_gpus(gpus: tuple[int, ...], lacks: str | None) -> None:
    """``mode=separate_async`` with four GPUs for the trainer and four for the rollouts; machines may share an address, as here."""
    with initialize_config_module("verl.mix_src.config", version_base=None):
        config = compose("mix_ppo", overrides=["profile=gpu", "mode=separate_async"])
    found = [{"NodeManagerAddress": "192.0.2.2", "Resources": {"GPU": number}} for number in gpus]
    config.trainer.n_gpus_per_node = 8 if gpus == (8,) else 4
    if lacks is None:
        nodes._check_resources(config, found)
    else:
        with pytest.raises(InputError, match=rf"^{re.escape(lacks)}\.nnodes=1 machines"):
            nodes._check_resources(config, found)


@pytest.mark.parametrize(
    ("says", "environment"),
    [("has veRL without the extension", {"VERL_USE_EXTERNAL_PLUGINS": "none"}), ("does not see the run's folder", {})],
)
def test_machine_that_lacks_something(says: str, environment: dict[str, str], joined: Cluster, config, tmp_path: Path) -> None:
    hidden = ("unshare", "--mount", "sh", "-c", f'mount -t tmpfs none "{tmp_path}" && exec "$@"', "sh")
    if not environment and (os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode):
        pytest.skip("this user may not hide a folder from a process")
    address = joined.environment["RAY_ADDRESS"]
    third = joined.start(f"--address={address}", before=() if environment else hidden, **environment)
    try:
        with pytest.raises(InputError, match=f"the cluster's machine .* {says}"):
            nodes.check_cluster(config)
    finally:
        joined.end(third)


def test_training_on_two_nodes(cluster: Cluster, tiny_example, tmp_path: Path) -> None:
    """Relative paths, working directories of their own, and a second run that is refused meanwhile."""
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "verl.mix_src.main_mix_ppo", *overrides(tiny_example, folder)]
    run = subprocess.Popen(command, cwd=ROOT, env=cluster.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    log, deadline = folder / "train.log", time.monotonic() + 300
    while not (log.exists() and "WorkerDict" in log.read_text(errors="replace")):
        assert run.poll() is None and time.monotonic() < deadline, run.stderr.read()
        time.sleep(0.5)
    second = subprocess.run(
        [*command, f"trainer.default_local_dir={tmp_path / 'second'}"], cwd=ROOT, env=cluster.environment, capture_output=True, text=True
    )
    assert second.returncode == 2
    errors = [line for line in second.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and "another training runs in this Ray cluster" in errors[0]
    out, console = run.communicate(timeout=600)
    assert run.returncode == 0, console[-1000:] + log.read_text(errors="replace")[-3000:]
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2]
    assert all(record["data"]["off_policy/reward"] == 1.0 for record in records)
    assert out.splitlines()[-1] == f"summary: {folder}/summary.json"
    shards = [path.name for path in (folder / f"global_step_{STEPS}" / "actor").glob("model_world_size_2_rank_*.pt")]
    assert sorted(shards) == ["model_world_size_2_rank_0.pt", "model_world_size_2_rank_1.pt"]
    assert "started the machine" in console and "started an actor worker (FSDP)" in console


def _said(run: subprocess.Popen, what: str) -> str:
    """What the run says, between the lines of Ray's that go the same way."""
    return next(line.split(": ")[1].strip() for line in run.stdout if line.startswith(f"{what}: "))


def test_lost_actor_and_lost_machine_end_the_run(cluster: Cluster) -> None:
    """Within 10 s where a process ended; within a minute where Ray has to find out that a machine is gone."""
    run = subprocess.Popen([sys.executable, DRIVER], env=cluster.environment, stdout=subprocess.PIPE, text=True)
    os.kill(int(_said(run, "actor")), signal.SIGKILL)
    lost = time.monotonic()
    assert _said(run, "failure") == "an actor worker (FSDP) ended" and time.monotonic() - lost < 10
    assert run.wait(60) == 0
    run = subprocess.Popen([sys.executable, DRIVER], env=cluster.environment, stdout=subprocess.PIPE, text=True)
    _said(run, "actor")
    lost = time.monotonic()
    for process in psutil.Process(cluster.nodes[1].pid).children(recursive=True):
        process.kill()
    assert _said(run, "failure").startswith("the machine ") and time.monotonic() - lost < 60
    assert run.wait(60) == 0
