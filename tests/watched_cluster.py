"""A run's actor on another node of a Ray cluster, without its work; ``test_nodes.py`` runs this and ends the actor.

Says the actor's process id, and then what the watch took for the first failure.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import ray
from omegaconf import OmegaConf
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from verl.mix_src.run.nodes import ClusterParts, prepare_to_join
from verl.mix_src.run.processes import supervised


def worker_class() -> type:
    """A class of the name of veRL's, made in a function as veRL makes it."""

    class WorkerDict:
        def pid(self) -> int:
            return os.getpid()

    return WorkerDict


def main() -> None:
    """Start the actor on a node that is not the driver's, and wait for its end."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    prepare_to_join(OmegaConf.create({"luffy": {}, "ray_kwargs": {"ray_init": {}}}))
    with supervised(ClusterParts().living) as watch:
        ray.init(log_to_driver=False)
        (other,) = {node["NodeID"] for node in ray.nodes() if node["Alive"]} - {ray.get_runtime_context().get_node_id()}
        worker = ray.remote(num_cpus=0)(worker_class())
        actor = worker.options(scheduling_strategy=NodeAffinitySchedulingStrategy(other, soft=False)).remote()
        pid = ray.get(actor.pid.remote())
        while "an actor worker (FSDP)" not in watch.started:
            time.sleep(0.1)
        sys.stdout.write(f"actor: {pid}\n")
        sys.stdout.flush()
        try:
            time.sleep(120)
        except KeyboardInterrupt:
            pass
        sys.stdout.write(f"failure: {watch.first_failure}\n")
        sys.stdout.flush()
        ray.shutdown()


if __name__ == "__main__":
    main()
