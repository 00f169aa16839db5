"""Real training processes over gloo: starts one for each rank, and what each of them needs."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from forked import become
from torch.distributed.tensor import DTensor


def run_ranks(script: str, world_size: int, cases: list[dict[str, Any]], folder: Path) -> None:
    """Run ``tests/SCRIPT CASES.json`` in so many processes, with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set.

    They are forks of this one, after the imports of the script.
    """
    listing = folder / "cases.json"
    listing.write_text(json.dumps(cases))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    environment |= {"WORLD_SIZE": str(world_size), "LOCAL_RANK": "0", "HF_HUB_OFFLINE": "1"}
    program = import_module(Path(script).stem).main
    logs = [folder / f"rank{rank}.log" for rank in range(world_size)]
    processes = [
        get_context("fork").Process(target=_rank, args=(program, [script, str(listing)], {**environment, "RANK": str(rank)}, log))
        for rank, log in enumerate(logs)
    ]
    for process in processes:
        process.start()
    deadline = time.monotonic() + 300
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert codes == [0] * world_size, logs[0].read_text()[-3000:]


def _rank(program: Callable[[], None], words: list[str], environment: dict[str, str], log: Path) -> None:
    with log.open("wb") as stream:
        become(words, environment, stream.fileno(), stream.fileno())
    torch.set_num_threads(1)  # a pool of threads does not outlive a fork
    torch.manual_seed(0)
    program()


def whole_weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights of a sharded module, gathered; to be called on every rank."""
    weights = module.state_dict().items()
    return {name: (value.full_tensor() if isinstance(value, DTensor) else value).cpu() for name, value in weights}
