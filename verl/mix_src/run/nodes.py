"""A run on a Ray cluster that was started by hand (``RAY_ADDRESS``), on one machine or several.

Before work starts every machine is looked at by one task there: has it the extension, veRL's version, the same model and data,
and the driver's run folder? While the run is on, Ray tells which actors and machines live.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from ray._private import state
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from luffy.errors import InputError
from verl.mix_src.config import luffy_config, rollout_pools
from verl.mix_src.run import loggers
from verl.mix_src.run.data import files_of
from verl.mix_src.run.sockets import LOOPBACK
from verl.mix_src.upstream import ACTORS, ENDS_FIRST, HEAD, PLUGIN, QUEUE, VERL_VERSION

OF_A_NEW_CLUSTER = ("num_cpus", "num_gpus", "resources", "labels", "object_store_memory", "_system_config", "_node_name")
OUTPUT_KEYS = ("dir", "save_path")  # how keys of veRL's config end that name what is written later
PATH_KEYS = ("path", "file", "files", *OUTPUT_KEYS)  # and all that name files or folders
LOOK_WITHIN_S = 180.0
ASK = "import sys; from ray._raylet import GcsClient; GcsClient(address=sys.argv[1]).get_all_node_info(timeout=10)"
SILENCE_S = 30.0  # of Ray's head
HOW_TO_START = "see docs/processes.md, several machines: RAY_AUTH_MODE=token and the same ~/.ray/auth_token on each, before `ray start`"


def joins_a_cluster() -> bool:
    """Whether the run joins a Ray cluster that is there already."""
    return os.environ.get("RAY_ADDRESS", "local") not in ("", "local")


def prepare_to_join(config: DictConfig) -> None:
    """Leave out what only the start of a new cluster takes, and authenticate as Ray's own commands do where a token is.

    Not in a cluster that asks for none: its head has no token to show when it asks this process whether an actor is still wanted, and
    would end the actor on being refused.
    """
    with open_dict(config):
        for key in OF_A_NEW_CLUSTER:
            config.ray_kwargs.ray_init.pop(key, None)
    if luffy_config(config).safety.open_cluster and not asks_for_token(os.environ["RAY_ADDRESS"]):
        os.environ["RAY_AUTH_MODE"] = "disabled"
    else:
        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)  # ray.init does so for the address "auto" only


def absolute_paths(config: DictConfig) -> DictConfig:
    """A copy of ``config`` in which each path is absolute: a worker's working directory is that of its machine's Ray."""
    absolute = copy.deepcopy(config)
    for node, key, name, value in list(_strings(absolute)):
        named, written_later = name.endswith(PATH_KEYS), name.endswith(OUTPUT_KEYS)
        if named and "://" not in value and not value.startswith("~") and (written_later or Path(value).exists()):
            node[key] = os.path.abspath(value)
    return absolute


def _strings(node: DictConfig | ListConfig, above: str = "") -> Iterator[tuple[DictConfig | ListConfig, Any, str, str]]:
    """Texts with their node, their key in it, and the name that they have: of one in a list that of the list."""
    for key in list(node) if isinstance(node, DictConfig) else range(len(node)):
        value = None if OmegaConf.is_missing(node, key) else node[key]
        name = str(key) if isinstance(node, DictConfig) else above
        if isinstance(value, DictConfig | ListConfig):
            yield from _strings(value, name)
        elif isinstance(value, str) and value:
            yield node, key, name, value


def check_cluster(config: DictConfig) -> str:
    """Look at each machine of the cluster that ``RAY_ADDRESS`` names.

    Args:
        config: with absolute paths.

    Returns:
        Ray's id of the driver's machine.

    Raises:
        InputError: where the cluster or a machine of it is not ready for the run.
    """
    with _connected():
        nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        _check_resources(config, list(nodes.values()))
        _check_queue_is_free()
        _check_is_closed(config, list(nodes.values()))
        token = Path(config.trainer.default_local_dir) / f".seen-{uuid.uuid4().hex}"
        token.parent.mkdir(parents=True, exist_ok=True)
        token.touch()
        try:
            machines = _look_at_all(list(nodes), token, _inputs(config))
        finally:
            token.unlink(missing_ok=True)
        driver = ray.get_runtime_context().get_node_id()
        for machine in machines.values():
            if fault := _fault(machine, machines[driver]):
                raise InputError(f"the cluster's machine {machine['ip']} {fault}")
        if loggers.key_in_shell_alone(config) and not machines[driver]["wandb key"]:
            raise InputError(
                f"{loggers.WANDB_KEY} is in this shell, and was not in that of `ray start`, whose processes log: set it there, run "
                "`wandb login`, or set WANDB_MODE=offline"
            )
        return driver


@contextmanager
def _connected() -> Iterator[None]:
    address = os.environ["RAY_ADDRESS"]
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (ray.exceptions.RayError, RuntimeError, ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"the Ray cluster at RAY_ADDRESS={address} cannot be joined ({reason}); {HOW_TO_START}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_resources(config: DictConfig, nodes: list[dict[str, Any]]) -> None:
    found = [(node["NodeManagerAddress"], int(node["Resources"].get("GPU", 0))) for node in nodes]
    left = [number for _, number in found]
    for key, pool in ({"trainer": config.trainer} | rollout_pools(config)).items():
        wanted, each = pool.nnodes, pool.n_gpus_per_node
        left.sort(reverse=True)
        if sum(number >= each for number in left) < wanted:
            there = ", ".join(f"{address}: {number}" for address, number in found)
            taken = f", of which {sum(left)} GPUs are left beside the trainer's" if key != "trainer" else ""
            raise InputError(
                f"{key}.nnodes={wanted} machines with {key}.n_gpus_per_node={each} GPUs each are wanted, and the Ray cluster has ({there})"
                f"{taken}: start more (ray start; --num-gpus=N where profile=cpu counts logical ones), or lower the numbers"
            )
        left[:wanted] = [number - each for number in left[:wanted]]


def _check_queue_is_free() -> None:
    try:
        ray.get_actor(**QUEUE)
    except ValueError:
        return
    raise InputError(
        "another training runs in this Ray cluster, and the two would share one TransferQueue: wait for it, or start a "
        "cluster of its own for this one (without RAY_ADDRESS on one machine)"
    )


def _check_is_closed(config: DictConfig, nodes: list[dict[str, Any]]) -> None:
    address = ray.get_runtime_context().gcs_address
    outside = {node["NodeManagerAddress"] for node in nodes} - {LOOPBACK}
    if outside and not luffy_config(config).safety.open_cluster and not asks_for_token(address):
        raise InputError(
            f"the Ray cluster at {address} asks for no token, so whoever reaches its ports runs code on its machines; {HOW_TO_START}; or "
            "luffy.safety.open_cluster=true, where its network is closed to everyone else"
        )


def asks_for_token(address: str) -> bool:
    """Whether the Ray cluster there answers nobody without its token: asked by a process that has none."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")} | {"RAY_AUTH_MODE": "disabled"}
    return subprocess.run([sys.executable, "-c", ASK, address], env=bare, capture_output=True, timeout=LOOK_WITHIN_S).returncode != 0


def _inputs(config: DictConfig) -> list[str]:
    named = (config.actor_rollout_ref.model.path, luffy_config(config).teacher.path, config.reward.custom_reward_function.path)
    paths = [*files_of(config.data.train_files), *files_of(config.data.val_files), *named]
    return [path for path in paths if path and os.path.isabs(path)]


def _look_at_all(nodes: list[str], token: Path, inputs: list[str]) -> dict[str, dict[str, Any]]:
    task = ray.remote(num_cpus=0, max_retries=0)(_look())
    found = {
        node: task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(str(token), inputs)
        for node in nodes
    }
    try:
        return {node: ray.get(result, timeout=LOOK_WITHIN_S) for node, result in found.items()}
    except (ray.exceptions.RayError, TimeoutError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(f"a machine of the Ray cluster runs no task ({reason}): look at `ray status`, and restart it") from error


def _look(key: str = loggers.WANDB_KEY) -> Callable[..., dict[str, Any]]:
    def look(token: str, inputs: list[str]) -> dict[str, Any]:
        """Nested, so that Ray sends its code: the project may be missing where it runs."""
        import sys

        try:
            import verl

            version = verl.__version__
        except ImportError as error:
            version = f"none ({error})"
        return {
            "ip": ray.util.get_node_ip_address(),
            "verl": version,
            "extension": getattr(sys.modules.get(PLUGIN), "LOADED", False),
            "run folder": Path(token).exists(),
            "wandb key": bool(os.environ.get(key)),
            "inputs": {  # sizes of the files at each path, by name
                path: {str(file.relative_to(path)): file.stat().st_size for file in [Path(path), *Path(path).glob("*")] if file.is_file()}
                for path in inputs
            },
        }

    return look


def _fault(machine: dict[str, Any], driver: dict[str, Any]) -> str | None:
    """What is wrong with a machine, and what to do; None where nothing is."""
    if machine["verl"] != VERL_VERSION:
        return f"has veRL {machine['verl']}, {VERL_VERSION} is wanted: run `ray start` there from this project's .venv"
    if not machine["extension"]:
        return "has veRL without the extension: install the project in the environment that runs `ray start` there"
    if not machine["run folder"]:
        return "does not see the run's folder of the driver: put trainer.default_local_dir on a disk that all machines share"
    for path, files in driver["inputs"].items():
        if machine["inputs"][path] != files:
            return f"has another {path}, or none: put model and data where all machines see them at one path"
    return None


class ClusterParts:
    """What Ray tells of this run's actors, and of the machines that they are or were on."""

    def __init__(self) -> None:
        self._machines: dict[str, str] = {}
        self._last, self._answered = dict[str, str](), 0.0

    def living(self) -> dict[str, str]:
        """What a person calls those that live now, by Ray's id, machines first; empty before the run has joined.

        Where Ray does not answer, what it said last counts for a while, then nothing.
        """
        if not ray.is_initialized():
            return {}
        try:
            self._last, self._answered = {"head": HEAD} | self._ask(), time.monotonic()
        except (ray.exceptions.RayError, RuntimeError, OSError):
            if time.monotonic() - self._answered > SILENCE_S:
                return {}
        return self._last

    def _ask(self) -> dict[str, str]:
        job = ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
        actors = state.actors(job_id=job, actor_state_name="ALIVE").values()
        self._machines |= {actor["Address"]["NodeID"]: f"the machine {actor['Address']['IPAddress']}" for actor in actors}
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        names = {actor["ActorID"]: ACTORS.get(actor["ActorClassName"].rpartition(".")[2]) for actor in actors}
        return {
            **{node: name for node, name in self._machines.items() if node in alive},
            **{actor: name for actor, name in names.items() if name and name not in ENDS_FIRST},
        }
