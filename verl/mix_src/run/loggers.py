"""Where the loggers of ``trainer.logger`` write: into the run's folder, and a run that goes on under the name that it had.

veRL's loggers take their places from environment variables and else write into the current folder; one that the user has set stays.
"""

from __future__ import annotations

import importlib.util
import netrc
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from verl.mix_src.run.folder import RunFiles

PACKAGES = {
    "wandb": "wandb", "tensorboard": "tensorboard", "trackio": "trackio", "mlflow": "mlflow", "swanlab": "swanlab", "clearml": "clearml",
    "vemlp_wandb": "volcengine_ml_platform", "rl_insight": "rl_insight",
}  # fmt: skip
PLACES = {"tensorboard": "TENSORBOARD_DIR", "wandb": "WANDB_DIR", "trackio": "TRACKIO_DIR", "swanlab": "SWANLAB_LOG_DIR"}
SECRETS = ("TOKEN", "SECRET", "PASSWORD", "API_KEY", "ACCESS_KEY")
WANDB_KEY = "WANDB_API_KEY"
WANDB_ID = "wandb_run_id"  # in the run's record


def names_of(config: DictConfig) -> list[str]:
    """The loggers of a run."""
    given = config.trainer.logger
    return [given] if isinstance(given, str) else list(given or [])


def environment(config: DictConfig, files: RunFiles) -> dict[str, str]:
    """Environment variables for the processes that log; a wandb run gets an id, which the run's record keeps."""
    names, found = names_of(config), {}
    for name in set(names) & set(PLACES):
        folder = (files.folder / name).resolve()
        folder.mkdir(parents=True, exist_ok=True)  # wandb takes the system's folder for temporary files where it finds none
        found[PLACES[name]] = str(folder)
    if "mlflow" in names:
        found["MLFLOW_TRACKING_URI"] = f"sqlite:///{(files.folder / 'mlflow.db').resolve()}"
    if "wandb" in names:
        number = files.read_record.get(WANDB_ID) or uuid.uuid4().hex[:8]
        files.update_record(**{WANDB_ID: number})
        found |= {"WANDB_RUN_ID": number, "WANDB_RESUME": "allow"}
        if not _has_wandb_key():
            found["WANDB_MODE"] = "offline"
        found |= {name: os.environ[name] for name in ("WANDB_MODE", "WANDB_BASE_URL") if name in os.environ}
    for name in found.keys() & os.environ.keys():  # told all the same: the workers of a cluster do not see this shell's variables
        found[name] = os.path.abspath(os.environ[name]) if name in PLACES.values() else os.environ[name]
    return found


def go_on_with_trackio(config: DictConfig) -> None:
    """Open the run of trackio's in this process, the one of that name where there is one; veRL's logger takes it."""
    if "trackio" in names_of(config):
        import trackio

        trainer = config.trainer
        trackio.init(
            project=trainer.project_name, name=trainer.experiment_name, config=OmegaConf.to_container(config, resolve=True), resume="allow"
        )


def notes(config: DictConfig, files: RunFiles) -> Iterator[str]:
    """Lines for the console."""
    if "wandb" in names_of(config) and "WANDB_MODE" not in os.environ and not _has_wandb_key():
        yield f"no key of wandb is here (wandb login): it writes to {files.folder / 'wandb'}, and `wandb sync` sends that"


def missing(config: DictConfig) -> Iterator[str]:
    """Loggers that are not installed, which would end the run after its start."""
    for name in names_of(config):
        package = PACKAGES.get(name)
        if package and importlib.util.find_spec(package) is None:
            yield f"trainer.logger has {name}, and the package {package} is not installed: pip install {package}, or leave it out"


def names_as_text(config: DictConfig) -> Iterator[str]:
    """A run's name must be text: Hydra reads ``nan`` and ``7`` as numbers, which the loggers refuse after the start."""
    for key in ("project_name", "experiment_name"):
        if not isinstance(name := config.trainer[key], str):
            yield f"trainer.{key}={name} is a number: give a name with a letter that makes it text, or quote it twice ('\"{name}\"')"


def secrets_in(config: DictConfig) -> Iterator[str]:
    """Secrets in the configuration, which is written to disk and to the loggers."""
    for name in OmegaConf.select(config, "ray_kwargs.ray_init.runtime_env.env_vars") or {}:
        if any(word in str(name).upper() for word in SECRETS):
            yield (
                f"ray_kwargs.ray_init.runtime_env.env_vars.{name} would be written into the run's config and logs: export {name} in the "
                "shell that starts the run (on a cluster: before `ray start`)"
            )


def key_in_shell_alone(config: DictConfig) -> bool:
    """Whether wandb's key is in this process's environment and nowhere else, so that no process of another parent has it."""
    asked = "wandb" in names_of(config) and "WANDB_MODE" not in os.environ
    return asked and bool(os.environ.get(WANDB_KEY)) and not _has_noted_key()


def _has_wandb_key() -> bool:
    return bool(os.environ.get(WANDB_KEY)) or _has_noted_key()


def _has_noted_key() -> bool:
    try:
        hosts = netrc.netrc(os.environ.get("NETRC") or str(Path.home() / ".netrc")).hosts
    except (OSError, netrc.NetrcParseError):
        return False
    return any("wandb" in host for host in hosts)
