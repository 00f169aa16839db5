"""What makes two starts the same run: method, data, start model and sampling; not how long, where or how fast it runs.

A run folder belongs to one run. Another one is refused with the differences, since it would go on from a foreign checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from luffy.data.columnar import row_count
from luffy.digests import file_digest
from luffy.errors import InputError
from luffy.evaluation.model_files import find_model
from verl.mix_src.held_out import files_of, settle
from verl.mix_src.run_files import RunFiles

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
NOT_KEYS = ("luffy.run.poll_interval_s", "*.optim.total_training_steps", "*optim.lr_warmup_steps", "*optim.num_cycles")
FILES = ("data.train_files", "data.val_files", "reward.custom_reward_function.path")
MODELS = ("actor_rollout_ref.model.path", "model.path")
SHOWN = 6  # differences in the message


def identity(config: DictConfig) -> dict[str, Any]:
    """Settings by full key; for files and models their names and digests (None where there is no such file here)."""
    found: dict[str, Any] = {
        key: value
        for key, value in _leaves(OmegaConf.to_container(config, resolve=True))
        if any(fnmatchcase(key, pattern) for pattern in KEYS) and not any(fnmatchcase(key, pattern) for pattern in NOT_KEYS)
    }
    for key in FILES:
        names = OmegaConf.select(config, key)
        names = [] if names is None else [names] if isinstance(names, str) else list(names)
        found[key] = {"name": names, "digest": [_file(name) for name in names]}
    for key in MODELS:
        if name := OmegaConf.select(config, key):
            found[key] = {"name": str(name), "digest": [find_model(name).fingerprint if Path(name).is_dir() else None]}
    return found


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two identities, each as ``key old -> new``; files of the same content are the same."""
    found = []
    for key in (key for key in before if key in now):  # settings that one of two versions of the project does not have are no difference
        old, new = before[key], now[key]
        if key in FILES + MODELS:
            if not _same_files(old, new):
                names = [each["name"] for each in (old, new)]
                found.append(f"{key} {_text(names[0])} -> {_text(names[1])}" if names[0] != names[1] else f"{key} has another content")
        elif old != new:
            found.append(f"{key} {_text(old)} -> {_text(new)}")
    return found


def check_folder(config: DictConfig) -> None:
    """Refuse another run in a folder that has one, unless the config says how to go on.

    Raises:
        InputError: with the differences and the three ways on.
    """
    files, mode = RunFiles(Path(config.trainer.default_local_dir)), config.trainer.resume_mode
    if mode == "resume_path":
        path = Path(str(config.trainer.resume_from_path))
        if "global_step_" not in path.name or not path.is_dir():
            raise InputError(f"trainer.resume_from_path={path} is no checkpoint folder (.../global_step_N)")
        return
    if mode not in ("auto", "disable"):
        raise InputError(f"trainer.resume_mode={mode}: choose auto, disable or resume_path")
    if mode == "disable" or not files.holds_a_run:
        return
    before = files.read_record.get("identity") or _of_config(files.config)
    if before is None:
        return
    if found := differences(before, identity(config)):
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        go_on = (
            f"go on from its checkpoint with the new settings (trainer.resume_mode=resume_path trainer.resume_from_path={files.checkpoint}), "
            if files.checkpoint
            else ""
        )
        raise InputError(
            f"{files.folder} holds another run ({'; '.join(found[:SHOWN])}{more}): give this one a folder of its own "
            f"(trainer.experiment_name=NAME or trainer.default_local_dir=FOLDER), {go_on}or begin anew, which moves the old files to "
            f"{files.folder}/earlier (trainer.resume_mode=disable)"
        )


def total_steps(config: DictConfig) -> int:
    """Steps of the whole run: ``trainer.total_training_steps``, or those of all epochs."""
    if config.trainer.total_training_steps is not None:
        return int(config.trainer.total_training_steps)
    rows = sum(row_count(Path(file)) for file in files_of(config.data.train_files))
    return rows // config.data.train_batch_size * config.trainer.total_epochs


def nothing_left(config: DictConfig, steps: int) -> str | None:
    """A line where the run's folder has all ``steps`` already, else None."""
    files = RunFiles(Path(config.trainer.default_local_dir))
    if config.trainer.resume_mode != "auto" or not files.checkpoint or (done := files.first_step(config)) < steps:
        return None
    return (
        f"nothing left to do: {files.folder} has {done} of {steps} steps (to go on: trainer.total_training_steps=N; to begin anew: "
        "trainer.resume_mode=disable)"
    )


def begin(config: DictConfig, files: RunFiles) -> list[str]:
    """Make folder and config ready for a start.

    Args:
        config: a checked config; held-out files and validation become definite in it.
        files: the run's folder.

    Returns:
        Lines for the console.
    """
    files.prepare(config, identity(config))
    validation = settle(config)
    files.update_record(validation=validation)
    first = files.first_step(config)
    return [*filter(None, [validation]), *([f"goes on after step {first}"] if first else [])]


def _of_config(file: Path) -> dict[str, Any] | None:
    """The identity of a run that left its config alone; files and models by name."""
    if not file.exists():
        return None
    found = identity(OmegaConf.load(file))
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


def _file(name: str) -> str | None:
    return file_digest(Path(name)) if Path(name).is_file() else None


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
