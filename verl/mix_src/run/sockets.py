"""Who can reach a run: on one machine nobody but the machine itself, since every server of the run listens on loopback alone.

veRL, vLLM and TransferQueue listen on the address that Ray gives a node. TransferQueue unpickles what arrives and vLLM's HTTP server asks
for no password, so that address decides who may run code. Ray takes an outside address wherever it finds one, and sets
loopback aside even where it is asked for; only its switch for laptops (:data:`LAPTOP`) leads it there. The stores of
``torch.distributed`` listen on all interfaces whatever address they are given: here they get a socket that is open already.

A run on several machines needs the network between them; there Ray's token is asked for (:mod:`verl.mix_src.run.nodes`).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import wraps
from typing import Any

from ray._private import ray_constants
from torch.distributed import TCPStore

LOOPBACK = "127.0.0.1"
ONE_MACHINE = "LUFFY_ONE_MACHINE"  # environment variable of every process of a run that keeps to its machine
LAPTOP = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
ENVIRONMENT = {
    ONE_MACHINE: "1",
    LAPTOP: "0",
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",  # of NCCL's start; between GPUs of one machine data take other ways
    "TP_SOCKET_IFNAME": "lo",
    "VLLM_HOST_IP": LOOPBACK,
}


def keep_to_this_machine() -> None:
    """Let all that this process starts from now on listen on loopback; a variable that the user has set stays."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    ray_constants.ENABLE_RAY_CLUSTER = False  # read from the environment when Ray was imported
    patch_store()


def patch_store() -> None:
    """Where the run keeps to its machine, give the stores of ``torch.distributed`` in this process a socket on loopback."""
    if os.environ.get(ONE_MACHINE) and not hasattr(TCPStore.__init__, "upstream"):
        TCPStore.__init__ = _on_loopback(TCPStore.__init__)


def _on_loopback(upstream: Callable[..., None]) -> Callable[..., None]:
    @wraps(upstream)
    def init(
        store: Any, host_name: str, port: int, world_size: int | None = None, is_master: bool = False, *rest: Any, **named: Any
    ) -> None:
        if is_master and named.get("master_listen_fd") is None:
            listening = socket.create_server((LOOPBACK, port))
            port, named["master_listen_fd"] = listening.getsockname()[1], listening.detach()
        upstream(store, host_name, port, world_size, is_master, *rest, **named)

    init.upstream = upstream
    return init
