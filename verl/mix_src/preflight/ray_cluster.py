"""The run's folder, and the Ray cluster that it starts or joins."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig

from verl.mix_src.nodes import joins_a_cluster
from verl.mix_src.preflight.problems import Check
from verl.mix_src.run_identity import folder_of_its_own

RAY_ADDRESS_FILE = Path("/tmp/ray/ray_current_cluster")  # where Ray notes a cluster that was started by hand


def _folder(config: DictConfig) -> None:
    if (folder := Path(config.trainer.default_local_dir)).is_dir():
        with folder_of_its_own(folder):
            pass


def _own_cluster(config: DictConfig) -> Iterator[str]:
    if joins_a_cluster():
        return
    if RAY_ADDRESS_FILE.is_file() and _answers(address := RAY_ADDRESS_FILE.read_text().strip()):
        yield f"a Ray session runs at {address} already: end it (ray stop), or join it (RAY_ADDRESS={address})"
    for key, value in config.ray_kwargs.get("ray_init", {}).items():
        if key.endswith("port") and value and _answers(f"127.0.0.1:{value}"):
            yield f"port {value} (ray_kwargs.ray_init.{key}) is taken: end what uses it or choose another"
    if config.trainer.nnodes > 1:
        yield (f"trainer.nnodes={config.trainer.nnodes} needs a Ray cluster of that many nodes: start it (ray start) and set RAY_ADDRESS")


def _joined_cluster(config: DictConfig) -> Iterator[str]:
    if not joins_a_cluster():
        return
    address = os.environ["RAY_ADDRESS"]
    if "://" in address:
        yield f"RAY_ADDRESS={address} is a client's address: start the run on a machine of the cluster, with RAY_ADDRESS=HEAD:6379"
    elif address != "auto" and not _answers(address):
        yield f"no Ray cluster answers at RAY_ADDRESS={address}: start it (ray start --head) or unset RAY_ADDRESS"


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host or "127.0.0.1", int(port)), timeout=2):
            return True
    except (OSError, ValueError):
        return False


CHECKS: tuple[Check, ...] = (_folder, _own_cluster, _joined_cluster)
