"""Bad input to a training: one line, exit code 2, before Ray starts. The command is run for real."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from hydra import compose, initialize_config_module

from luffy.errors import InputError
from verl.mix_src import preflight
from verl.mix_src.preflight import machine, ray_cluster
from verl.mix_src.run_identity import folder_of_its_own

TRAIN = [sys.executable, "-m", "verl.mix_src.main_mix_ppo"]


def composed(*overrides: str):
    with initialize_config_module("verl.mix_src.config", version_base=None):
        return compose("mix_ppo", overrides=["profile=cpu", *overrides])


def problems(*overrides: str) -> list[str]:
    return list(preflight.machine_problems(composed(*overrides)))


@pytest.fixture
def ready(tiny_example, tmp_path) -> list[str]:
    """Overrides with which nothing is wrong."""
    return [
        f"data.train_files={tiny_example.train}",
        f"data.val_files={tiny_example.heldout}",
        f"actor_rollout_ref.model.path={tiny_example.model}",
        f"trainer.default_local_dir={tmp_path / 'run'}",
    ]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("luffy.objective.gama=0.3", "luffy.objective.gamma"),
        ("+luffy.guidence.n_demonstrations=1", "luffy.guidance"),
        ("actor_rollout_ref.actor.off_policy_reshape=p_div_p_0.1", "luffy.objective.shaping=p_div_p"),
        ("actor_rollout_ref.rollout.n_prefix=2", "luffy.guidance.n_demonstrations=2"),
    ],
)
def test_override_of_a_wrong_name(override: str, says: str) -> None:
    with pytest.raises(InputError, match=says.replace(".", r"\.")):
        preflight.check_overrides([override])


def test_right_names_pass() -> None:
    preflight.check_overrides(["luffy.objective.gamma=0.3", "profile=cpu", "data.train_batch_size=8"])


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["luffy.guidance.n_demonstrations=9"], "has 8 rows"),
        (["luffy.guidance.n_demonstrations=8", "luffy.advantage.baseline=on_policy"], "leaves no rollout"),
        (["algorithm.adv_estimator=grpo"], "keep luffy"),
        (["actor_rollout_ref.actor.entropy_coeff=0.5"], "luffy.entropy.coefficient"),
        (["luffy.objective.kl_coefficient=0.1"], "use_kl_loss"),
        (["actor_rollout_ref.actor.ppo_mini_batch_size=5"], "multiple"),
        (
            ["data.train_batch_size=8", "actor_rollout_ref.actor.ppo_mini_batch_size=8"],
            r"actor.ppo_micro_batch_size_per_gpu=128 must divide the 64 rows of a rank \(8 prompts x 8 rows / 1 ranks\)",
        ),
        (
            ["actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=48"],
            "rollout.log_prob_micro_batch_size_per_gpu=48 must divide the 128 rows of a rank",
        ),
        (["luffy.objective.gamma=-1"], "above 0"),
        (["luffy.guidance.schedule=lineer"], "luffy.guidance.schedule"),
        (["trainer.use_v1=false"], "use_v1"),
        (["+reward.reward_kwargs.time_limit=3"], "reward.reward_kwargs.time_limit_s"),
        (["reward.custom_reward_function.path=nowhere.py"], "nowhere.py"),
    ],
)
def test_contradictions(overrides: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        preflight.check_config(composed(*overrides))


@pytest.mark.parametrize("experiment", ["luffy", "on_policy", "mixed", "rl_sft_loss", "sft_rl"])
@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_shipped_configs_pass(experiment: str, profile: str) -> None:
    with initialize_config_module("verl.mix_src.config", version_base=None):
        preflight.check_config(compose("mix_ppo", overrides=[f"profile={profile}", f"experiment={experiment}"]))


def test_nothing_is_wrong(ready: list[str]) -> None:
    assert problems(*ready) == []


def test_missing_and_broken_files(ready: list[str], tmp_path: Path) -> None:
    assert "nowhere.parquet" in problems(*ready, f"data.train_files={tmp_path}/nowhere.parquet")[0]
    frame = pd.DataFrame([{"prompt": [{"role": "user", "content": "1="}], "data_source": "x"}])
    frame.to_parquet(tmp_path / "columns.parquet")
    assert "is missing" in problems(*ready, f"data.val_files={tmp_path}/columns.parquet")[0]
    frame.iloc[:0].to_parquet(tmp_path / "empty.parquet")
    assert problems(*ready, f"data.val_files={tmp_path}/empty.parquet")


def test_demonstrations_of_another_type(ready: list[str], tiny_example, tmp_path: Path) -> None:
    frame = pd.read_parquet(tiny_example.train)
    frame["target"] = "a text"
    frame.to_parquet(tmp_path / "text.parquet")
    (problem,) = problems(*ready, f"data.train_files={tmp_path}/text.parquet")
    assert "target" in problem and "\n" not in problem
    assert problems(*ready, f"data.train_files={tmp_path}/text.parquet", "experiment=on_policy") == []


def test_too_few_rows_for_a_step(ready: list[str], tiny_example, tmp_path: Path) -> None:
    pd.read_parquet(tiny_example.train).iloc[:3].to_parquet(tmp_path / "three.parquet")
    assert "3 rows" in problems(*ready, f"data.train_files={tmp_path}/three.parquet")[0]


@pytest.mark.parametrize(("key", "says"), [("eos_token", "no EOS"), ("chat_template", "no chat template")])
def test_tokenizer_without(key: str, says: str, ready: list[str], tiny_example, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_example.model, model)
    if key == "chat_template":
        (model / "chat_template.jinja").unlink()
    config = json.loads((model / "tokenizer_config.json").read_text())
    config[key] = None
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    assert says in problems(*ready, f"actor_rollout_ref.model.path={model}")[0]


def test_missing_model(ready: list[str], tmp_path: Path) -> None:
    assert "not a folder" in problems(*ready, f"actor_rollout_ref.model.path={tmp_path}/nothing")[0]


def test_more_gpus_than_there_are(ready: list[str]) -> None:
    assert "this machine has" in problems(*ready, "trainer.device=cuda", "trainer.n_gpus_per_node=64")[0]


def test_another_training_in_the_same_folder(ready: list[str], tmp_path: Path) -> None:
    with folder_of_its_own(tmp_path / "run"):
        (problem,) = problems(*ready)
        assert problem.startswith(f"another run uses the folder {tmp_path / 'run'}: ")
        assert problems(*ready, f"trainer.default_local_dir={tmp_path / 'another'}") == []
    assert problems(*ready) == []


@pytest.mark.parametrize("name", ["null", "verl.workers.rollout.vllm_rollout.utils.vLLMColocateWorkerExtension", "no.such"])
def test_worker_extension_that_awaits_weights_elsewhere(name: str) -> None:
    with pytest.raises(InputError, match="keep verl.mix_src.weight_sync.MixWorkerExtension"):
        preflight.check_config(composed(f"actor_rollout_ref.rollout.engine_kwargs.vllm.worker_extension_cls={name}"))


def test_taken_port(ready: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert f"port {port}" in problems(*ready, f"+ray_kwargs.ray_init.dashboard_port={port}")[0]


def test_ray_session_left_over(ready: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = tmp_path / "ray_current_cluster"
    with socket.create_server(("127.0.0.1", 0)) as server:
        note.write_text(f"127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setattr(ray_cluster, "RAY_ADDRESS_FILE", note)
        assert "ray stop" in problems(*ready)[0]
    assert problems(*ready) == []


def test_cluster_that_does_not_answer(ready: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert "no Ray cluster answers" in problems(*ready)[0]


def test_another_verl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "VERL_VERSION", "0.8.0")
    with pytest.raises(InputError, match=r"verl==0\.8\.0"):
        preflight.check_extension()


def _run(*overrides: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*TRAIN, *overrides], capture_output=True, text=True, timeout=120, env={**os.environ, **environment}
    )


def _error_lines(result: subprocess.CompletedProcess) -> list[str]:
    return [line for line in result.stderr.splitlines() if line.startswith("error:")]


@pytest.mark.slow
def test_command_stops_with_one_line_and_exit_code_2(ready: list[str]) -> None:
    unknown = _run("profile=cpu", *ready, "luffy.objective.gama=0.3")
    assert (unknown.returncode, len(_error_lines(unknown))) == (2, 1)
    not_loaded = _run("profile=cpu", *ready, VERL_USE_EXTERNAL_PLUGINS="none")
    assert (not_loaded.returncode, len(_error_lines(not_loaded))) == (2, 1)
    assert "plugin" in _error_lines(not_loaded)[0]


@pytest.mark.slow
def test_dry_run_shows_the_papers_configuration() -> None:
    result = _run("profile=gpu", "dry_run=true")
    assert result.returncode == 0, result.stderr[-2000:]
    assert "devices          1 x 8 cuda" in result.stdout
    assert "rollout replicas 4, each on 2" in result.stdout
    assert "rows a step      128 prompts x 8 (of which 1 demonstrations)" in result.stdout
    assert "updates a step   2\n" in result.stdout
    assert "tokens a row     1024 + 8192" in result.stdout
    assert "lr: 1.0e-06" in result.stdout
    assert "not ready here: " in result.stdout  # this machine has no such data, model or GPUs
