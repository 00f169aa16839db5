"""What makes two starts the same run: method, data, start model and sampling; not how long, where or how fast it runs.

A run folder belongs to one run. Another one is refused with the differences, since it would go on from a foreign checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from luffy.config import in_new_names
from luffy.data.rows import row_count
from luffy.digests import file_digest
from luffy.errors import InputError
from luffy.models import find_model
from verl.mix_src.config import model_node
from verl.mix_src.run import checkpoints
from verl.mix_src.run.data import files_of, settle
from verl.mix_src.run.folder import RunFiles

KEYS = (  # of reinforcement learning and of SFT; * stands for any rest
    "trainer.experiment_name",
    "luffy.*",
    "algorithm.*",
    "reward.reward_kwargs.thought_gate",
    "reward.custom_reward_function.*",
    *(f"data.{name}" for name in (
        "train_batch_size", "train_max_samples", "val_max_samples", "shuffle", "max_prompt_length", "max_response_length",
        "filter_overlong_prompts", "max_length", "apply_chat_template_kwargs*",
    )),
    "actor_rollout_ref.model.override_config.*",
    *(f"actor_rollout_ref.actor.{name}" for name in ("ppo_mini_batch_size", "ppo_epochs", "grad_clip", "use_kl_loss", "optim.*")),
    *(f"actor_rollout_ref.rollout.{name}" for name in ("n", "temperature", "top_p", "top_k", "val_kwargs.*")),
    "optim.*",
    "val_kwargs.*",
)  # fmt: skip
NOT_KEYS = (
    "luffy.run.poll_interval_s",
    "luffy.run.fork_workers",
    "luffy.safety.*",
    "luffy.record.*",
    "*.optim.total_training_steps",
    "*optim.lr_warmup_steps",
    "*optim.num_cycles",
)
FILES = ("data.train_files", "data.val_files", "reward.custom_reward_function.path")
MODELS = ("actor_rollout_ref.model.path", "model.path", "luffy.teacher.path")
SHOWN = 6  # differences in the message


def identity(config: DictConfig) -> dict[str, Any]:
    """Settings by full key; for files and models their names and digests (None where there is no such file here)."""
    found: dict[str, Any] = {
        key: value
        for key, value in _leaves(OmegaConf.to_container(config, resolve=True))
        if any(fnmatchcase(key, pattern) for pattern in KEYS) and not any(fnmatchcase(key, pattern) for pattern in NOT_KEYS)
    }
    for key in FILES:
        given = OmegaConf.select(config, key)
        names = [] if given is None else [given] if isinstance(given, str) else list(given)
        found[key] = {"name": names, "digest": [file_digest(Path(name)) if Path(name).is_file() else None for name in names]}
    for key in MODELS:
        if name := OmegaConf.select(config, key):
            found[key] = {"name": str(name), "digest": [find_model(name).fingerprint if Path(name).is_dir() else None]}
    return found


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two identities, each as ``key old -> new``; files of the same content are the same."""
    found, before = [], in_new_names(before)
    for key in (key for key in before if key in now):  # settings that one of two versions of the project does not have are no difference
        old, new = before[key], now[key]
        if key in FILES + MODELS and None not in (old, new):  # a model that is not asked for
            if _same_files(old, new):
                continue
            old, new = old["name"], new["name"]
            if old == new:
                found.append(f"{key} has another content")
        if old != new:
            found.append(f"{key} {_text(old)} -> {_text(new)}")
    return found


def check_folder(config: DictConfig) -> None:
    """Refuse another run in a folder that has one, unless the config says how to go on.

    Raises:
        InputError: with the differences and the three ways on.
    """
    files, mode = RunFiles.of(config), config.trainer.resume_mode
    if mode == "resume_path":
        path = Path(str(config.trainer.resume_from_path))
        if "global_step_" not in path.name or not path.is_dir():
            raise InputError(f"trainer.resume_from_path={path} is no checkpoint folder (.../global_step_N)")
        return
    if mode not in ("auto", "disable"):
        raise InputError(f"trainer.resume_mode={mode}: choose auto, disable or resume_path")
    if mode == "disable" or not files.holds_a_run:
        return
    if found := _other_run(config, files):
        more, go_on = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "", ""
        if files.checkpoint:
            path = f"trainer.resume_mode=resume_path trainer.resume_from_path={files.checkpoint}"
            go_on = f"go on from its checkpoint with the new settings ({path}), "
        raise InputError(
            f"{files.folder} holds another run ({'; '.join(found[:SHOWN])}{more}): give this one a folder of its own "
            f"(trainer.experiment_name=NAME or trainer.default_local_dir=FOLDER), {go_on}or begin anew, which moves the old files to "
            f"{files.folder}/earlier (trainer.resume_mode=disable)"
        )


def goes_on(config: DictConfig) -> bool:
    """Whether the run's folder has a checkpoint of this very run, from which it goes on by itself."""
    files = RunFiles.of(config)
    with suppress(OmegaConfBaseException):  # what cannot be resolved is refused by its checks
        return config.trainer.resume_mode == "auto" and files.checkpoint is not None and not _other_run(config, files)
    return False


def _other_run(config: DictConfig, files: RunFiles) -> list[str]:
    """What differs between this run and the one that the folder has."""
    return differences(files.read_record.get("identity") or _of_config(files.config), identity(config))


def total_steps(config: DictConfig) -> int:
    """Steps of the whole run: ``trainer.total_training_steps``, or those of all epochs."""
    if config.trainer.total_training_steps is not None:
        return int(config.trainer.total_training_steps)
    rows = sum(row_count(Path(file)) for file in files_of(config.data.train_files))
    return rows // config.data.train_batch_size * config.trainer.total_epochs


def nothing_left(config: DictConfig, steps: int) -> str | None:
    """A line where the run's folder has all ``steps`` already, else None."""
    files = RunFiles.of(config)
    if config.trainer.resume_mode != "auto" or not files.checkpoint or (done := files.first_step(config)) < steps:
        return None
    return (
        f"nothing left to do: {files.folder} has {done} of {steps} steps (to go on: trainer.total_training_steps=N; to begin anew: "
        "trainer.resume_mode=disable)"
    )


def begin(config: DictConfig, files: RunFiles) -> list[str]:
    """Make folder and config ready for a start, in which held-out files become definite; returns lines for the console.

    Raises:
        InputError: a checkpoint that is broken, or that this run cannot load.
    """
    told = _settle_checkpoint(config, files)
    files.prepare(config, identity(config))
    validation, first = settle(config), files.first_step(config)
    files.update_record(validation=validation)
    return [line for line in (*told, validation, f"goes on after step {first}" if first else None) if line]


def _settle_checkpoint(config: DictConfig, files: RunFiles) -> list[str]:
    """Look at the checkpoint that the run goes on from, before anything is started; returns lines for the console."""
    mode, told = config.trainer.resume_mode, []
    if mode == "disable":
        return []
    if mode == "auto":
        told = checkpoints.settle_newest(files.folder, broken=OmegaConf.select(config, "luffy.safety.broken_checkpoint", default="skip"))
        found = files.checkpoint
    else:
        found = Path(str(config.trainer.resume_from_path))
        if fault := checkpoints.fault(found):
            raise InputError(f"trainer.resume_from_path={found} is broken: {fault}")
        before = (checkpoints.manifest_of(found) or {}).get("identity") or {}
        told = [f"note: {found.name} was trained with other settings: {each}" for each in differences(before, identity(config))]
    if found is not None:
        ranks = config.trainer.nnodes * config.trainer.n_gpus_per_node
        checkpoints.refuse_foreign(found, ranks=ranks, model=Path(str(model_node(config).path)))
    return told


def _of_config(file: Path) -> dict[str, Any]:
    """The identity of a run that left its config alone, files and models by name; empty where it left none."""
    found = identity(OmegaConf.load(file)) if file.exists() else {}
    return {key: {**value, "digest": []} if key in FILES + MODELS else value for key, value in found.items()}


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(node, dict):
        yield prefix, node
        return
    for key, value in node.items():
        yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))


def _same_files(old: Any, new: Any) -> bool:
    known = [each["digest"] for each in (old, new) if each["digest"] and None not in each["digest"]]
    return known[0] == known[1] if len(known) == 2 else old["name"] == new["name"]


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
