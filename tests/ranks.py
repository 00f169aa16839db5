"""Real training processes over gloo: starts one for each rank, and what each of them needs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor


def run_ranks(script: str, world_size: int, cases: list[dict[str, Any]], folder: Path) -> None:
    """Run ``tests/SCRIPT CASES.json`` in so many processes, with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set."""
    listing = folder / "cases.json"
    listing.write_text(json.dumps(cases))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    environment |= {"WORLD_SIZE": str(world_size), "LOCAL_RANK": "0", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(Path(__file__).with_name(script)), str(listing)]
    logs = [folder / f"rank{rank}.log" for rank in range(world_size)]
    processes = []
    for rank, log in enumerate(logs):
        with log.open("wb") as stream:
            processes.append(subprocess.Popen(command, env={**environment, "RANK": str(rank)}, stdout=stream, stderr=subprocess.STDOUT))
    try:
        codes = [process.wait(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert codes == [0] * world_size, logs[0].read_text()[-3000:]


def whole_weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights of a sharded module, gathered; to be called on every rank."""
    weights = module.state_dict().items()
    return {name: (value.full_tensor() if isinstance(value, DTensor) else value).cpu() for name, value in weights}
