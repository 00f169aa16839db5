"""Every experiment at scale composes and is consistent, as are the comparison's commands; nothing is started."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from jinja2 import Template
from omegaconf import DictConfig, OmegaConf
from released_scripts import SCRIPTS as RELEASED

from luffy.comparison.cells import Cell, plan
from luffy.comparison.commands import RL_MODULE, SFT_MODULE, training_command
from luffy.comparison.layout import Layout
from luffy.comparison.methods import ABLATIONS, METHODS, ablation
from luffy.comparison.regimes import MAIN
from luffy.config import LuffyConfig
from luffy.released_options import translate
from verl.mix_src import preflight, sft_preflight

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "verl" / "mix_src" / "config"
EXPERIMENTS, PROFILES, MODELS = (
    sorted(file.stem for file in (CONFIG / group).glob("*.yaml")) for group in ("experiment", "profile", "paper_model")
)
SCRIPTS = sorted((ROOT / "exp_scripts").glob("train*.sh"))


def composed(*overrides: str, module: str = RL_MODULE) -> DictConfig:
    folder, name = {RL_MODULE: ("config", "mix_ppo"), SFT_MODULE: ("config.sft", "sft")}[module]
    with initialize_config_module(f"verl.mix_src.{folder}", version_base=None):
        return compose(name, overrides=list(overrides))


def checked(*overrides: str) -> DictConfig:
    config = composed(*overrides)
    preflight.check_config(config)
    OmegaConf.resolve(config)
    return config


def test_the_papers_methods_and_models_are_there():
    assert EXPERIMENTS == ["luffy", "mixed", "on_policy", "rl_sft_loss", "sft_rl"]
    assert PROFILES == ["cpu", "gpu"]
    assert MODELS == ["llama_3_1_8b", "qwen2_5_7b_instruct", "qwen2_5_math_1_5b", "qwen2_5_math_7b"]


@pytest.mark.parametrize(("profile", "experiment"), itertools.product(PROFILES, EXPERIMENTS))
def test_experiment(profile: str, experiment: str):
    config = checked(f"profile={profile}", f"experiment={experiment}")
    assert config.trainer.experiment_name == experiment
    luffy = LuffyConfig.from_mapping(OmegaConf.to_container(config.luffy))
    assert luffy.guidance.n_demonstrations == (0 if experiment in ("on_policy", "sft_rl") else 1)
    assert luffy.objective.shaping == ("identity" if experiment == "mixed" else "p_div_p")
    assert luffy.objective.clip_low == luffy.objective.clip_high == (None if experiment in ("luffy", "rl_sft_loss") else 0.2)
    assert luffy.objective.sft_coefficient == (1.0 if experiment == "rl_sft_loss" else 0.0)
    assert luffy.advantage.baseline == ("on_policy" if experiment == "rl_sft_loss" else "group")


@pytest.mark.parametrize(
    ("model", "path", "gate", "copies"),
    [
        ("qwen2_5_math_7b", "models/Qwen2.5-Math-7B-16k", True, 4),
        ("qwen2_5_math_1_5b", "models/Qwen2.5-Math-1.5B-16k", True, 8),
        ("qwen2_5_7b_instruct", "models/Qwen2.5-7B-Instruct-think", True, 4),
        ("llama_3_1_8b", "models/Llama-3.1-8B-cot", False, 4),
    ],
)
def test_paper_model(model: str, path: str, gate: bool, copies: int):
    config = checked("profile=gpu", f"paper_model={model}")
    assert config.actor_rollout_ref.model.path == path
    assert config.reward.reward_kwargs.thought_gate is gate
    assert config.trainer.n_gpus_per_node // config.actor_rollout_ref.rollout.tensor_model_parallel_size == copies
    assert (config.data.max_response_length, config.trainer.total_training_steps) == (8192, 500)
    if model == "qwen2_5_math_7b":  # the profile's own
        assert config == composed("profile=gpu")


@pytest.mark.slow
@pytest.mark.parametrize("choice", itertools.product(PROFILES, EXPERIMENTS, MODELS), ids="-".join)
def test_every_combination(choice: tuple[str, str, str]):
    profile, experiment, model = choice
    checked(f"profile={profile}", f"experiment={experiment}", f"paper_model={model}")


@pytest.mark.parametrize("script", RELEASED)
def test_released_script_is_the_experiment_of_its_name(script: str):
    """Each of the released scripts, translated, passes every check by name and value, and trains as the experiment does."""
    new, dropped = translate(RELEASED[script])
    overrides = [f"{key}={value}" for key, value in new.items()]
    preflight.check_overrides(["profile=gpu", *overrides])
    config = checked("profile=gpu", *overrides)
    name = script.removesuffix(".sh").removeprefix("train").strip("_") or "luffy"
    ours = checked("profile=gpu", f"experiment={name}")
    theirs, expected = (LuffyConfig.from_mapping(OmegaConf.to_container(each.luffy)) for each in (config, ours))
    assert theirs.objective == expected.objective and theirs.advantage == expected.advantage
    assert theirs.entropy == expected.entropy and theirs.guidance.n_demonstrations == expected.guidance.n_demonstrations
    for key in ("data.train_batch_size", "actor_rollout_ref.actor.ppo_mini_batch_size", "actor_rollout_ref.actor.optim.lr",
                "actor_rollout_ref.rollout.val_kwargs", "trainer.save_freq", "trainer.max_actor_ckpt_to_keep"):  # fmt: skip
        assert OmegaConf.select(config, key) == OmegaConf.select(ours, key), key
    assert all(dropped.values()) and not set(dropped) & set(new)


def test_released_scripts_keep_the_released_defaults():
    """What a script leaves out is the released code's default, not this project's."""
    new, _ = translate(["actor_rollout_ref.rollout.n=8"])
    assert new == {
        "luffy.objective.clip_low": "0.2", "luffy.objective.clip_high": "0.2", "luffy.advantage.normalize_std": "true",
        "luffy.guidance.n_demonstrations": "-1", "actor_rollout_ref.rollout.n": "8",
    }  # fmt: skip


def test_llama_prompt():
    template = Template((CONFIG / "paper_model" / "llama_3_1_8b.jinja").read_text())
    chat = [{"role": "system", "content": "Think."}, {"role": "user", "content": "1+1?"}]
    rendered = template.render(messages=chat, bos_token="<|begin_of_text|>", add_generation_prompt=True)
    assert rendered == "<|begin_of_text|>User: 1+1?\nAnswer: Let's think step by step."


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_names_an_experiment(script: Path):
    text = script.read_text()
    named = re.findall(r'run\.sh"? (\w+)', text)
    assert named == [] if script.name == "train_sft.sh" else set(named) <= set(EXPERIMENTS) and len(named) == 1
    assert "main_sft" in text or named
    assert len(text.splitlines()) <= 15


def test_every_experiment_has_a_script():
    text = "".join(script.read_text() for script in SCRIPTS)
    assert set(re.findall(r'run\.sh"? (\w+)', text)) == set(EXPERIMENTS)
    assert {method.experiment for method in METHODS.values()} == {*EXPERIMENTS, None}


@pytest.mark.parametrize(
    ("regime", "method", "prompts"),
    [("main", "luffy", 16), ("main", "sft", 16), ("main", "sft_rl", 16), ("traces_16", "luffy", 8), ("traces_16", "sft", 8)],
)
def test_comparison_command(regime: str, method: str, prompts: int, tmp_path: Path):
    (cell,) = (cell for cell in plan([regime], [7]) if cell.method.name == method)
    module, *overrides = training_command(cell, Layout(tmp_path))
    config = composed(*overrides, module=module)
    (sft_preflight if module == SFT_MODULE else preflight).check_config(config)
    assert config.luffy.run.seed == 7
    assert config.data.train_batch_size == prompts
    assert config.trainer.default_local_dir == str(tmp_path / "cells" / regime / method / "seed7")


def test_all_variants_of_ablations_are_valid(tmp_path: Path):
    base = OmegaConf.load(CONFIG / "luffy.yaml")
    seen = []
    for variant in [variant for name in ABLATIONS for variant in ablation(name)]:
        command = training_command(Cell(regime=MAIN, method=variant, seed=0, steps=60), Layout(tmp_path))
        node = OmegaConf.create({"luffy": base, "data": {"max_response_length": 8192}})
        node.luffy.run.seed = 0
        node = OmegaConf.merge(node, OmegaConf.from_dotlist([each for each in command if each.startswith("luffy.")]))
        config = LuffyConfig.from_mapping(OmegaConf.to_container(node.luffy, resolve=True))
        config.guidance.check_group_size(8)
        seen.append(config)
    assert [seen.count(config) for config in seen].count(1) == len(seen) - 5  # each ablation has the paper's setting
    assert max(config.objective.gamma for config in seen) == 0.5
    assert {config.guidance.n_demonstrations for config in seen} == {1, 2, 4}
