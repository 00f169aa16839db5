"""Loggers write into the run's folder, a wandb run keeps its id, and what would fail or leak is said before a start."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from forked import run_code
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from verl.mix_src.run import loggers
from verl.mix_src.run.folder import RunFiles

VARIABLES = (*loggers.PLACES.values(), "WANDB_MODE", "WANDB_API_KEY", "WANDB_RUN_ID", "WANDB_RESUME", "MLFLOW_TRACKING_URI")
LOG = """
import json, sys
from verl.utils.tracking import Tracking
log = Tracking("luffy", "mine", json.loads(sys.argv[1]), config={"trainer": {}})
for step in (1, 2):
    log.log({"on_policy/reward": step / 4}, step=step)
log.finish()
"""


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def config(folder: Path, *names: str):
    return OmegaConf.create({"trainer": {"logger": list(names), "default_local_dir": str(folder)}})


def test_each_writes_into_the_runs_folder_and_wandb_goes_on_under_its_id(tmp_path: Path) -> None:
    """veRL's own loggers, twice, as a run and its resume."""
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    names = ("tensorboard", "wandb")
    for _ in range(2):
        variables = loggers.environment(config(folder, *names), RunFiles(folder))
        done = run_code(LOG, json.dumps(names), environment=variables, folder=elsewhere)
        assert done.returncode == 0, done.stderr[-2000:]
    number = json.loads((folder / "run.json").read_text())["wandb_run_id"]
    assert list(elsewhere.iterdir()) == []
    assert len(list((folder / "tensorboard").glob("events.out.tfevents.*"))) == 2
    offline = [path.name for path in (folder / "wandb" / "wandb").glob("offline-run-*")]
    assert offline and all(name.endswith(f"-{number}") for name in offline)


TRACKIO = """
import json, sys
from omegaconf import OmegaConf
from verl.utils.tracking import Tracking
from verl.mix_src.run.loggers import go_on_with_trackio
trainer = {"logger": ["trackio"], "project_name": "luffy", "experiment_name": "mine"}
go_on_with_trackio(OmegaConf.create({"trainer": trainer}))
log = Tracking("luffy", "mine", trainer["logger"], config={"trainer": trainer})
for step in json.loads(sys.argv[1]):
    log.log({"on_policy/reward": step / 4}, step=step)
log.finish()
"""


def test_trackio_goes_on_in_the_run_that_is_there(tmp_path: Path) -> None:
    pytest.importorskip("trackio", reason="pip install -e '.[trackio]'")
    for steps in ([1, 2], [3]):
        variables = loggers.environment(config(tmp_path, "trackio"), RunFiles(tmp_path))
        done = run_code(TRACKIO, json.dumps(steps), environment=variables, folder=Path("/"))
        assert done.returncode == 0, done.stderr[-2000:]
    with closing(sqlite3.connect(tmp_path / "trackio" / "luffy.db")) as base:
        rows = base.execute("select run_id, run_name, step, metrics from metrics order by step").fetchall()
    assert [(name, step, json.loads(found)) for _, name, step, found in rows] == [
        ("mine", step, {"on_policy/reward": step / 4}) for step in (1, 2, 3)
    ]
    assert len({number for number, *_ in rows}) == 1


def test_what_the_user_has_set_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("TENSORBOARD_DIR", "mine")
    found = loggers.environment(config(tmp_path, "tensorboard", "wandb"), RunFiles(tmp_path))
    assert set(found) == {"WANDB_DIR", "WANDB_RUN_ID", "WANDB_RESUME", "WANDB_MODE", "TENSORBOARD_DIR"}
    assert (found["WANDB_MODE"], found["TENSORBOARD_DIR"]) == ("online", os.path.abspath("mine"))
    assert list(loggers.notes(config(tmp_path, "wandb"), RunFiles(tmp_path))) == []


def test_a_key_that_only_this_shell_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers of a cluster that was there before get it from `ray start`, or from the file that `wandb login` writes."""
    wandb = config(tmp_path, "wandb")
    assert not loggers.key_in_shell_alone(wandb)
    monkeypatch.setenv("WANDB_API_KEY", "0123")
    assert loggers.key_in_shell_alone(wandb) and not loggers.key_in_shell_alone(config(tmp_path, "tensorboard"))
    Path(os.environ["NETRC"]).write_text("machine api.wandb.ai login user password 0123\n")
    assert not loggers.key_in_shell_alone(wandb)


def test_a_key_makes_wandb_go_online_and_none_is_said(tmp_path: Path) -> None:
    files = RunFiles(tmp_path)
    assert loggers.environment(config(tmp_path, "wandb"), files)["WANDB_MODE"] == "offline"
    (line,) = loggers.notes(config(tmp_path, "wandb"), files)
    assert "no key of wandb" in line and f"{tmp_path}/wandb" in line
    Path(os.environ["NETRC"]).write_text("machine api.wandb.ai login user password 0123\n")
    assert "WANDB_MODE" not in loggers.environment(config(tmp_path, "wandb"), files)
    assert list(loggers.notes(config(tmp_path, "wandb"), files)) == []


def test_a_logger_that_is_not_installed_is_refused(tmp_path: Path) -> None:
    (line,) = loggers.missing(config(tmp_path, "console", "file", "wandb", "vemlp_wandb"))
    assert line.startswith("trainer.logger has vemlp_wandb, and the package volcengine_ml_platform is not installed")
    assert list(loggers.missing(OmegaConf.create({"trainer": {"logger": "console"}}))) == []


def test_a_secret_in_the_configuration_is_refused() -> None:
    variables = {"HF_TOKEN": "hf_x", "WANDB_API_KEY": "y", "NCCL_DEBUG": "INFO"}
    given = OmegaConf.create({"ray_kwargs": {"ray_init": {"runtime_env": {"env_vars": variables}}}})
    lines = list(loggers.secrets_in(given))
    assert len(lines) == 2 and "env_vars.HF_TOKEN would be written" in lines[0] and "hf_x" not in " ".join(lines)
    assert list(loggers.secrets_in(OmegaConf.create({"ray_kwargs": {"ray_init": {}}}))) == []


@pytest.mark.parametrize(("name", "number"), [("7", True), ("nan", True), ("run7", False)])
def test_a_name_that_hydra_reads_as_a_number_is_refused(name: str, number: bool) -> None:
    with initialize_config_module("verl.mix_src.config", version_base=None):
        found = list(loggers.names_as_text(compose("mix_ppo", overrides=["profile=cpu", f"trainer.experiment_name={name}"])))
    assert bool(found) == number and all(f"trainer.experiment_name={name} is a number" in line for line in found)
