"""Bad input to a training: one line, exit code 2, before Ray starts. The command is run for real."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
import yaml
from forked import run_module
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from transformers import Qwen2_5_VLConfig

from luffy.errors import InputError
from luffy.evaluation.gpus import Gpu
from verl.mix_src import main_sft, upstream
from verl.mix_src.run import nodes, preflight
from verl.mix_src.run.folder import folder_of_its_own
from verl.mix_src.run.preflight import machine, settings
from verl.mix_src.run.preflight.overrides import check_command_line, check_overrides, is_read, unread
from verl.mix_src.upstream import INSTEAD, SWITCHED, SWITCHED_OFF

CONFIG = Path(__file__).resolve().parent.parent / "verl" / "mix_src" / "config"
TRAIN = [sys.executable, "-m", "verl.mix_src.main_mix_ppo"]


@cache
def profile(*groups: str):
    with initialize_config_module("verl.mix_src.config", version_base=None):
        return compose("mix_ppo", overrides=list(groups))


REPLAYS = "luffy.store.admit=partly_solved"
QUEUES = ["luffy.store.admit=unsolved", "luffy.store.update_at=16", "luffy.guidance.n_demonstrations=0"]


def composed(*overrides: str, machine: str = "cpu"):
    """The config with overrides; files are read once for each choice of files, as that takes a second."""
    groups = [each for each in overrides if "." not in each.partition("=")[0]]
    config = copy.deepcopy(profile(f"profile={machine}", *groups))
    OmegaConf.set_struct(config, False)
    return OmegaConf.merge(config, OmegaConf.from_dotlist([each.lstrip("+") for each in overrides if each not in groups]))


def problems(*overrides: str) -> list[str]:
    return list(preflight.problems(preflight.RL_MACHINE, composed(*overrides)))


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
        ("luffy.objective.shaping.gama=0.3", "luffy.objective.shaping.gamma"),
        ("+luffy.guidence.n_demonstrations=1", "luffy.guidance"),
        ("actor_rollout_ref.actor.off_policy_reshape=p_div_p_0.1", "luffy.objective.shaping.name=p_div_p"),
        ("actor_rollout_ref.rollout.n_prefix=2", "luffy.guidance.n_demonstrations=2"),
    ],
)
def test_override_of_a_wrong_name(override: str, says: str) -> None:
    with pytest.raises(InputError, match=says.replace(".", r"\.")):
        check_overrides([override])


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("trainer.total_trainning_steps=3", "unknown key trainer.total_trainning_steps; did you mean trainer.total_training_steps?"),
        ("lr=1e-5", "unknown key lr; did you mean actor_rollout_ref.actor.optim.lr?"),
        ("experimnt=luffy", "unknown key experimnt; did you mean experiment?"),
        ("zzqx=1", "unknown key zzqx; see --cfg job for every key"),
        (
            "reward.custom_reward_function.reward_kwargs={bonus: 0.1}",
            "reward.custom_reward_function.reward_kwargs is not there yet: +reward.custom_reward_function.reward_kwargs=... adds it",
        ),
        ("experiment=lufy", "In 'mix_ppo': Could not find 'experiment/lufy' Available options in 'experiment': "),
        ("model_engine=megatron", "model_engine=megatron: the gradient of this extension is tested on veRL's FSDP engine alone"),
        ("data.train_batch_size=[", "no viable alternative at input '['"),
        ("+actor_rollout_ref.actor.clip=0.2", "actor_rollout_ref.actor.clip has no effect here: nothing in a LUFFY training reads it"),
        ("actor_rollout_ref.actor.clip_ratio=0.2", "set luffy.objective.clip_low and luffy.objective.clip_high"),
    ],
)
def test_override_that_would_do_nothing(override: str, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)) as caught:
        check_overrides([override])
    assert "\n" not in str(caught.value)


def test_right_overrides_pass() -> None:
    check_overrides(
        [
            "profile=cpu",
            "luffy.objective.shaping.gamma=0.3",
            "data.train_batch_size=8",
            "trainer.logger=[console,file]",
            "+trainer.remove_previous_ckpt_in_save=true",  # in no file of veRL's, but read
            "+ray_kwargs.ray_init.dashboard_port=1",
            "+actor_rollout_ref.rollout.engine_kwargs.vllm.swap_space=1",
            "~trainer.val_only",
        ]
    )


def test_flags_of_hydra_are_no_overrides() -> None:
    check_command_line(["--cfg", "job", "profile=cpu"])
    check_command_line(["--config-dir", "mine", "experiment=mine"])
    with pytest.raises(InputError, match=r"unknown key optim\.lrr; did you mean optim\.lr\?"):
        check_command_line(["profile=cpu", "optim.lrr=1"], module="verl.mix_src.config.sft", name="sft")


HAS_NO_EFFECT = {
    "actor_rollout_ref.actor.clip_ratio_high": "set luffy.objective.clip_high",
    "actor_rollout_ref.actor.clip_ratio_c": "set luffy.objective.dual_clip",
    "actor_rollout_ref.actor.loss_agg_mode": "set luffy.objective.aggregation",
    "actor_rollout_ref.actor.loss_scale_factor": "set luffy.objective.constant_length",
    "actor_rollout_ref.actor.kl_loss_coef": "set luffy.objective.kl_coefficient",
    "actor_rollout_ref.actor.kl_loss_type": "set luffy.objective.kl_estimator",
    "actor_rollout_ref.actor.policy_loss.loss_mode": "the loss is luffy.objective.*",
    "actor_rollout_ref.actor.tau_pos": "nothing in a LUFFY training reads it",
    "actor_rollout_ref.rollout.do_sample": "nothing in a LUFFY training reads it",
    "actor_rollout_ref.nccl_timeout": "nothing in a LUFFY training reads it",
    "algorithm.norm_adv_by_std_in_grpo": "set luffy.advantage.normalize_std",
    "algorithm.lam": "nothing is discounted",
    "algorithm.use_pf_ppo": "nothing in a LUFFY training reads it",
    "algorithm.kl_ctrl.kl_coef": "while algorithm.use_kl_in_reward is false",
    "algorithm.rollout_correction.rollout_is_threshold": "while algorithm.rollout_correction.rollout_is is null",
    "critic.optim.lr": "there is no critic",
    "critic.enable": "there is no critic",
    "custom_reward_function.path": "set reward.custom_reward_function.*",
    "distillation.enabled": "no teacher but the demonstrations",
    "reward_model.enable": "set reward.reward_model.*",
    "reward.reward_model.model_path": "while reward.reward_model.enable is false",
    "actor_rollout_ref.ref.fsdp_config.param_offload": "while actor_rollout_ref.actor.use_kl_loss is false",
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu": "while actor_rollout_ref.actor.use_dynamic_bsz is true",
    "actor_rollout_ref.model.mtp.num_speculative_tokens": "while actor_rollout_ref.model.mtp.enable is false",
    "actor_rollout_ref.rollout.multi_turn.max_user_turns": "while actor_rollout_ref.rollout.multi_turn.enable is false",
    "trainer.balance_batch": "nothing in a LUFFY training reads it",
    "trainer.resume_from_path": "while trainer.resume_mode is auto",
    "trainer.v1.colocate_async.num_warmup_batches": "while trainer.v1.trainer_mode is sync",
}


@pytest.mark.parametrize("key", HAS_NO_EFFECT)
def test_key_that_nothing_reads(key: str) -> None:
    (problem,) = unread([key], composed(machine="gpu"))
    assert problem.startswith(f"{key} has no effect ") and HAS_NO_EFFECT[key] in problem


def test_key_that_is_read() -> None:
    keys = [
        "actor_rollout_ref.actor.grad_clip", "actor_rollout_ref.actor.optim.lr", "actor_rollout_ref.actor.ppo_epochs",
        "actor_rollout_ref.actor.ppo_max_token_len_per_gpu", "actor_rollout_ref.actor.checkpoint.save_contents",
        "actor_rollout_ref.model.path", "actor_rollout_ref.rollout.n", "actor_rollout_ref.rollout.val_kwargs.temperature",
        "actor_rollout_ref.rollout.enable_prefix_caching", "algorithm.filter_groups.enable", "algorithm.use_kl_in_reward",
        "data.truncation", "reward.custom_reward_function.path", "trainer.max_actor_ckpt_to_keep", "trainer.critic_warmup",
        "trainer.v1.trainer_mode", "ray_kwargs.ray_init.num_cpus", "transfer_queue.backend.storage_backend",
    ]  # fmt: skip
    assert list(unread(keys, composed(machine="gpu"))) == []


def test_switches_that_are_on() -> None:
    config = composed("algorithm.use_kl_in_reward=true", "reward.reward_model.enable=true", "trainer.v1.trainer_mode=colocate_async")
    keys = ["algorithm.kl_ctrl.kl_coef", "actor_rollout_ref.ref.fsdp_config.param_offload", "reward.reward_model.model_path"]
    assert list(unread([*keys, "trainer.v1.colocate_async.num_warmup_batches"], config)) == []
    assert list(unread(["actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu"], config)) == []


def test_every_key_of_veRL_that_shipped_files_set_is_read() -> None:
    def keys(tree: dict, prefix: str = ""):
        for name, value in tree.items():
            yield from keys(value, f"{prefix}{name}.") if isinstance(value, dict) and value else [prefix + name]

    for file in CONFIG.rglob("*.yaml"):
        if file.parent.name != "sft" and "sft" not in file.parts:
            tree = yaml.safe_load(file.read_text())
            veRLs = [each for each in keys(tree) if each.partition(".")[0] not in ("defaults", "hydra", "luffy", "method", "dry_run")]
            assert [each for each in veRLs if not is_read(each)] == [], file.name


def test_advice_names_what_is_unread_and_what_exists() -> None:
    luffy = {f"luffy.{section}.{key}" for section in ("objective", "advantage") for key in profile("profile=cpu").luffy[section]}
    for key, advice in INSTEAD.items():
        below = {"reward_model": ".enable", "critic": ".enable", "distillation": ".enabled"}.get(key, "")
        assert list(unread([key + below], composed())), key
        assert set(re.findall(r"luffy\.\w+\.\w+", advice)) <= luffy
    for switch in {each for any_of in SWITCHED.values() for each in any_of} | set(SWITCHED_OFF.values()):
        assert is_read(switch), switch


KDRL = ("experiment=kdrl", "luffy.teacher.path=a_teacher")


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["luffy.guidance.n_demonstrations=9"], "has 8 rows"),
        (["luffy.guidance.n_demonstrations=8", "luffy.advantage.baseline=on_policy"], "leaves no rollout"),
        (["algorithm.adv_estimator=grpo"], "keep luffy"),
        (["actor_rollout_ref.actor.entropy_coeff=0.5"], "luffy.entropy.coefficient"),
        (["luffy.objective.kl_coefficient=0.1"], "use_kl_loss"),
        (["experiment=uft", "actor_rollout_ref.actor.use_kl_loss=false"], "set both or neither"),
        (["experiment=opd"], "there is no teacher: set luffy.teacher.path"),
        (["luffy.teacher.path=a_teacher"], "nothing reads a teacher's log-probabilities"),
        ([*KDRL, "actor_rollout_ref.actor.use_kl_loss=false"], "a teacher is loaded by veRL's reference worker"),
        ([*KDRL, "actor_rollout_ref.model.lora_rank=8"], "luffy.teacher.path has no effect with LoRA"),
        (["experiment=opsd", "luffy.teacher.privileged=Think."], "which has no {solution}; put it where the trace goes"),
        ([*KDRL, "luffy.objective.kl_coefficient=0.1"], "whose place the teacher has"),
        ([*KDRL, "luffy.objective.distill_coefficient.until=0"], "distill_coefficient.until is 0, and begin 0: it ends before it begins"),
        (["experiment=chord_mu", "luffy.objective.imitation_share.start=1.5"], "imitation_share has the value 1.5; it must be in"),
        (["experiment=hpt", "luffy.guidance.on_demand_below=null"], "on_demand_replaces is true, but on_demand_below is null"),
        (["actor_rollout_ref.actor.ppo_mini_batch_size=5"], "multiple"),
        (["luffy.stages.mode=reroll"], "decides how much of a trace each row is given; set luffy.guidance.n_demonstrations to 0"),
        (
            [
                "luffy.stages.mode=reroll",
                "luffy.guidance.n_demonstrations=0",
                "reward.reward_model.enable=true",
                f"reward.custom_reward_function.path={__file__}",
            ],  # fmt: skip
            "set reward.reward_model.enable_resource_pool=true",
        ),
        ([REPLAYS, "mode=colocate_async"], "luffy.store.admit=partly_solved needs mode=sync"),
        ([REPLAYS, "luffy.store.capacity=7"], "luffy.store.capacity is 7, below the 8 prompts that a step replays"),
        ([REPLAYS, "luffy.guidance.n_demonstrations=8"], "replaces a rollout of a group, and luffy.guidance.n_demonstrations leaves none"),
        ([REPLAYS, "data.custom_cls.name=RLHFDataset"], "names prompts by their number in the data"),
        ([*QUEUES, "luffy.guidance.n_demonstrations=1"], "a demonstration is one: set luffy.guidance.n_demonstrations=0"),
        ([*QUEUES, "luffy.store.update_at=null"], "luffy.store.admit is unsolved and needs update_at"),
        ([*QUEUES, "trainer.n_gpus_per_node=3"], "update_at is 16; it must be a multiple of the 3 data-parallel ranks"),
        ([*QUEUES, "actor_rollout_ref.actor.optim.lr_scheduler_type=cosine"], "each moves the learning rate's schedule on"),
        (
            ["data.train_batch_size=8", "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=128"],
            r"actor.ppo_micro_batch_size_per_gpu=128 must divide the 64 rows of a rank \(8 prompts x 8 rows / 1 ranks\)",
        ),
        (
            ["actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=48"],
            "rollout.log_prob_micro_batch_size_per_gpu=48 must divide the 128 rows of a rank",
        ),
        (["luffy.objective.shaping.gamma=-1"], "above 0"),
        (["luffy.guidance.schedule=lineer"], "luffy.guidance.schedule"),
        (["trainer.use_v1=false"], "use_v1"),
        (["+reward.reward_kwargs.time_limit=3"], "reward.reward_kwargs.time_limit_s"),
        (["reward.custom_reward_function.path=nowhere.py"], "nowhere.py"),
        (["reward.reward_model.enable=true"], "the verifier does not ask"),
        (["actor_rollout_ref.rollout.name=sglang"], "set vllm"),
        (["actor_rollout_ref.actor.strategy=megatron"], "tested with fsdp2"),
        (["trainer.n_gpus_per_node=3", "actor_rollout_ref.rollout.tensor_model_parallel_size=2"], "3 GPUs .* into replicas of 2"),
        (["algorithm.rollout_correction.bypass_mode=true"], "nobody sampled a demonstration"),
        (["algorithm.rollout_correction.rollout_is=token"], "calculate_log_probs=true"),
        (["algorithm.rollout_correction.rollout_rs=token_k1"], "calculate_log_probs=true"),
        (["actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=null"], "veRL refuses this config: .*ppo_micro_batch_size"),
        (["actor_rollout_ref.rollout.mode=sync"], "veRL refuses this config"),
    ],
)
def test_contradictions(overrides: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        preflight.refuse(preflight.RL_CONFIG, composed(*overrides))


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


def test_a_curriculum_without_its_column(ready: list[str]) -> None:
    (problem,) = problems(*ready, "luffy.guidance.policy_success_below=0.5")
    assert "has no column policy_success, which luffy.guidance.policy_success_below reads" in problem


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


def test_nodes_without_a_cluster(ready: list[str]) -> None:
    assert "RAY_ADDRESS" in problems(*ready, "trainer.nnodes=2")[-1]


def test_flash_attention_that_is_not_there(ready: list[str]) -> None:
    gpus = [*ready, "trainer.device=cuda", "trainer.n_gpus_per_node=0"]
    says = list(problems(*gpus, "actor_rollout_ref.model.override_config.attn_implementation=flash_attention_2"))
    assert [each for each in says if "flash-attn" in each and "set attention=sdpa" in each]
    assert not [each for each in problems(*gpus) if "flash-attn" in each]  # the profile asks for sdpa


def test_vision_language_model(ready: list[str], tiny_example, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_example.model, model)
    Qwen2_5_VLConfig().save_pretrained(model)
    assert "vision-language model" in problems(*ready, f"actor_rollout_ref.model.path={model}")[0]


def test_another_training_in_the_same_folder(ready: list[str], tmp_path: Path) -> None:
    with folder_of_its_own(tmp_path / "run"):
        (problem,) = problems(*ready)
        assert problem.startswith(f"another run uses the folder {tmp_path / 'run'}: ")
        assert problems(*ready, f"trainer.default_local_dir={tmp_path / 'another'}") == []
    assert problems(*ready) == []


@pytest.mark.parametrize("name", ["null", "verl.workers.rollout.vllm_rollout.utils.vLLMColocateWorkerExtension", "no.such"])
def test_worker_extension_that_awaits_weights_elsewhere(name: str) -> None:
    with pytest.raises(InputError, match="keep verl.mix_src.rl.weight_sync.MixWorkerExtension"):
        preflight.refuse(preflight.RL_CONFIG, composed(f"actor_rollout_ref.rollout.engine_kwargs.vllm.worker_extension_cls={name}"))


def test_taken_port(ready: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert f"port {port}" in problems(*ready, f"+ray_kwargs.ray_init.dashboard_port={port}")[0]


def test_ray_session_left_over(ready: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = tmp_path / upstream.RAY_ADDRESS_FILE
    note.parent.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        note.write_text(f"127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
        assert "ray stop" in problems(*ready)[0]
    assert problems(*ready) == []


def test_another_users_ray_is_none_of_a_runs_concern(ready: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = tmp_path / upstream.RAY_ADDRESS_FILE
    note.parent.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        note.write_text(f"127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setattr(machine.os, "getuid", lambda: note.stat().st_uid + 1)
        assert problems(*ready) == []


def test_cluster_that_does_not_answer(ready: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert "no Ray cluster answers" in problems(*ready)[0]


def test_another_verl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "VERL_VERSION", "0.8.0")
    with pytest.raises(InputError, match=r"verl==0\.8\.0"):
        machine.check_extension()


def _error_lines(result: subprocess.CompletedProcess) -> list[str]:
    return [line for line in result.stderr.splitlines() if line.startswith("error:")]


@pytest.mark.slow
def test_command_stops_with_one_line_and_exit_code_2(ready: list[str]) -> None:
    unknown = run_module(TRAIN[-1], "profile=cpu", *ready, "luffy.objective.gama=0.3")
    assert (unknown.returncode, len(_error_lines(unknown))) == (2, 1)
    without = {**os.environ, "VERL_USE_EXTERNAL_PLUGINS": "none"}
    not_loaded = subprocess.run([*TRAIN, "profile=cpu", *ready], capture_output=True, text=True, timeout=120, env=without)
    assert (not_loaded.returncode, len(_error_lines(not_loaded))) == (2, 1)
    assert "plugin" in _error_lines(not_loaded)[0]


@pytest.mark.slow
def test_dry_run_shows_the_papers_configuration() -> None:
    result = run_module(TRAIN[-1], "profile=gpu", "dry_run=true")
    assert result.returncode == 0, result.stderr[-2000:]
    assert "method           LUFFY (arXiv 2504.14945)" in result.stdout
    assert "devices          1 x 8 cuda" in result.stdout
    assert "rollout replicas 4, each on 2" in result.stdout
    assert "rows a step      128 prompts x 8 (of which 1 demonstrations)" in result.stdout
    assert "updates a step   2\n" in result.stdout
    assert "forward passes   one of the first update's rows, two of the others\n" in result.stdout
    assert "tokens a row     1024 + 8192" in result.stdout
    assert "learning rate    1e-06" in result.stdout
    assert "not ready here: " in result.stdout  # this machine has no such data, model or GPUs


def test_separate_async_says_all_that_it_lacks_in_one_line() -> None:
    found = preflight.problems(preflight.RL_CONFIG, composed("mode=separate_async", "actor_rollout_ref.rollout.nnodes=0"))
    (line,) = [each for each in found if each.startswith("mode=separate_async cannot run here: ")]
    assert line.count(";") == 2
    for part in (
        "data.train_batch_size=16 must be trainer.v1.separate_async.parameter_sync_step=2 times",
        "rollout.nnodes=0",
        "profile=cpu",
    ):
        assert part in line


def test_separate_async_on_gpus_lacks_a_package_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    with initialize_config_module("verl.mix_src.config", version_base=None):
        config = compose("mix_ppo", overrides=["profile=gpu", "mode=separate_async"])
    (line,) = preflight.problems(preflight.RL_CONFIG, config)
    assert line.startswith("mode=separate_async cannot run here: the package cupy is not installed") and ";" not in line
    monkeypatch.setattr(settings.importlib.util, "find_spec", lambda name: name == "cupy")
    assert list(preflight.problems(preflight.RL_CONFIG, config)) == []
    with initialize_config_module("verl.mix_src.config", version_base=None):
        assert "=naive" in next(preflight.problems(preflight.RL_CONFIG, compose("mix_ppo", overrides=[
            "profile=gpu", "mode=separate_async", "actor_rollout_ref.rollout.checkpoint_engine.backend=naive"
        ])))  # fmt: skip


@pytest.mark.parametrize("hybrid", [True, False])
def test_separate_async_trains_with_workers_that_set_weights_aside(hybrid: bool) -> None:
    """veRL's trainer asks them to before each update after the first; the teacher is told to them as well."""
    from verl.mix_src.rl.loss import MixWorker
    from verl.mix_src.rl.trainer import MixTrainerSeparateAsync

    trainer = object.__new__(MixTrainerSeparateAsync)
    trainer.config = composed("mode=separate_async", "actor_rollout_ref.actor.use_kl_loss=true", machine="gpu")
    trainer._enable_hybrid_replicas = hybrid
    trainer._init_resource_pool_mgr()
    workers = {role.name: worker.__ray_metadata__.modified_class for role, worker in trainer.role_worker_mapping.items()}
    assert workers.keys() == ({"ActorRolloutRef"} if hybrid else {"Actor", "RefPolicy"})
    for worker in workers.values():
        assert issubclass(worker, MixWorker) and callable(worker.save_model_to_cpu) and callable(worker.restore_model_from_cpu)


def test_rollouts_pool_must_hold_whole_replicas() -> None:
    config = composed("mode=separate_async", "actor_rollout_ref.rollout.n_gpus_per_node=3", machine="gpu")
    lines = [each for each in preflight.problems(preflight.RL_CONFIG, config) if "replicas" in each]
    assert len(lines) == 1 and lines[0].startswith("3 GPUs (actor_rollout_ref.rollout.nnodes x ")


@pytest.mark.parametrize("key", ["actor.fsdp_config.", "actor.", "ref.fsdp_config."])
def test_sequences_are_cut_over_ranks_with_flash_attention_alone(key: str) -> None:
    """veRL exchanges what the ranks of a sequence hold inside flash-attn; any other attention would see a rank's own part."""
    override = f"actor_rollout_ref.{key}ulysses_sequence_parallel_size=2"
    lines = [list(settings.sequence_parallel(composed(override, *more, machine="gpu"))) for more in ((), ("attention=sdpa",))]
    assert lines[0] == []
    assert [each for each in lines[1] if "ulysses_sequence_parallel_size=2 needs flash-attn" in each]


def test_fine_tuning_shows_its_engines_no_more_gpus_than_its_ranks_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines take all that they see, and the others may be somebody else's."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,4,5,6")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    monkeypatch.setattr(main_sft, "visible_gpus", lambda: [Gpu(name=name, memory=80 * 2**30) for name in "3456"])
    run = object.__new__(main_sft.SupervisedTuning)
    run.config = OmegaConf.create({"trainer": {"n_gpus_per_node": 2}})
    run._keep_to_its_gpus()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,4"


def test_words_in_lists_are_no_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is called as a logger or as a part of a checkpoint changes neither."""
    config = composed("trainer.logger=[console,wandb]", "data.train_files=[data/a.parquet]")
    for name in ("wandb", "model", "optimizer", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "data" / "a.parquet").touch()
    monkeypatch.chdir(tmp_path)
    absolute = nodes.absolute_paths(config)
    assert absolute.trainer.logger == ["console", "wandb"]
    checkpoint = config.actor_rollout_ref.actor.checkpoint
    assert "model" in checkpoint.save_contents and absolute.actor_rollout_ref.actor.checkpoint == checkpoint
    assert absolute.data.train_files == [str(tmp_path / "data" / "a.parquet")]


def test_client_address_is_refused_and_a_new_local_cluster_is_none(ready: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://127.0.0.1:10001")
    assert "a client's address" in problems(*ready)[0]
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert problems(*ready) == []
