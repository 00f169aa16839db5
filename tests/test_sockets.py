"""On one machine the servers of a run listen on loopback alone; ``test_training.py`` looks at those of a whole run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from verl.mix_src.main_sft import TORCHRUN
from verl.mix_src.run.sockets import ENVIRONMENT

LISTENING = """
import json, os, psutil
found = [psutil.Process(), *psutil.Process().children(recursive=True)]
print(json.dumps([c.laddr.ip for p in found for c in p.net_connections("inet") if c.status == "LISTEN"]))
"""
STORES = """
import sys
from datetime import timedelta
if sys.argv[1] == "kept":
    from verl.mix_src.run.sockets import keep_to_this_machine
    keep_to_this_machine()
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous
first = dist.TCPStore("127.0.0.1", 0, 1, True, wait_for_workers=False)
client = dist.TCPStore("127.0.0.1", first.port, is_master=False, wait_for_workers=False)
client.set("key", "value")
assert first.get("key") == b"value"
store, rank, size = next(rendezvous("tcp://127.0.0.1:0", 0, 1))
dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
"""
RAY = """
from verl.mix_src.run.sockets import keep_to_this_machine
keep_to_this_machine()
import ray
ray.init(num_cpus=1, include_dashboard=False, object_store_memory=80_000_000, log_to_driver=False)
@ray.remote
def one(): return ray.util.get_node_ip_address()
assert ray.get(one.remote()) == "127.0.0.1"
"""


def listening(program: str, *arguments: str) -> set[str]:
    """The addresses on which a program and all that it has started listen at its end."""
    done = subprocess.run([sys.executable, "-c", program + LISTENING, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_stores_of_torch_listen_on_loopback() -> None:
    assert listening(STORES, "kept") == {"127.0.0.1"}
    assert listening(STORES, "as PyTorch does") - {"127.0.0.1"}  # else the patch is not needed any more


RANK = """
import torch, torch.distributed as dist
dist.init_process_group("gloo")
total = torch.ones(1)
dist.all_reduce(total)
assert total.item() == 2
dist.destroy_process_group()  # a rank that ends without it aborts now and then
"""


def test_ranks_meet_where_the_host_name_leads_to_another_address(tmp_path: Path) -> None:
    """As in containers, on cloud machines, and on Debian (127.0.1.1): the store is on 127.0.0.1."""
    (tmp_path / "rank.py").write_text(RANK)
    flag, program, *flags = TORCHRUN
    elsewhere = "import socket; socket.getfqdn = socket.gethostname = lambda *_: '127.0.0.2'; "
    command = [sys.executable, flag, elsewhere + program, *flags, "--nproc_per_node=2", str(tmp_path / "rank.py")]
    environment = {**os.environ, **ENVIRONMENT, "TORCHELASTIC_ERROR_FILE": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.integration
@pytest.mark.alone
def test_ray_listens_on_loopback() -> None:
    assert listening(RAY) <= {"127.0.0.1", "::ffff:127.0.0.1"}
