"""Every experiment at scale composes and is consistent, as are the comparison's commands; nothing is started."""

from __future__ import annotations

import copy
import itertools
import re
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from jinja2 import Template
from omegaconf import DictConfig, OmegaConf
from released_scripts import SCRIPTS as RELEASED

from luffy.config import LuffyConfig, luffy_node
from luffy.objective import load_method
from luffy.objective.shaping import Identity, PDivP
from luffy.released_options import translate
from miniature.comparison.cells import Cell, Folders, plan
from miniature.comparison.methods import ABLATIONS, MAIN, METHODS, PAPER, ablation
from miniature.comparison.run import RL_MODULE, SFT_MODULE, training_command
from verl.mix_src.run import preflight
from verl.mix_src.run.preflight.overrides import check_overrides

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "verl" / "mix_src" / "config"
EXPERIMENTS, PROFILES, MODELS = (
    sorted(file.stem for file in (CONFIG / group).glob("*.yaml")) for group in ("experiment", "profile", "paper_model")
)
TAUGHT = dict.fromkeys(("opd", "kdrl"), ("luffy.teacher.path=a_teacher",))  # those that do not start without
SCRIPTS = sorted((ROOT / "exp_scripts").glob("train*.sh"))


@cache
def files_of(*overrides: str, module: str) -> DictConfig:
    folder, name = {RL_MODULE: ("config", "mix_ppo"), SFT_MODULE: ("config.sft", "sft")}[module]
    with initialize_config_module(f"verl.mix_src.{folder}", version_base=None):
        return compose(name, overrides=list(overrides))


def composed(*overrides: str, module: str = RL_MODULE) -> DictConfig:
    """The config with overrides; its files are read once."""
    return copy.deepcopy(files_of(*overrides, module=module))


def of_model(config: DictConfig, model: str) -> DictConfig:
    """What ``paper_model=MODEL`` makes of a config (``test_paper_model`` compares): ten times as fast as to compose all anew."""
    return OmegaConf.merge(config, OmegaConf.load(CONFIG / "paper_model" / f"{model}.yaml"))


def choice_of(profile: str, experiment: str) -> tuple[str, ...]:
    return (f"profile={profile}", f"experiment={experiment}", *TAUGHT.get(experiment, ()))


def checked(*overrides: str, model: str | None = None) -> DictConfig:
    config = composed(*overrides)
    config = of_model(config, model) if model else config
    preflight.refuse(preflight.RL_CONFIG, config)
    OmegaConf.resolve(config)
    return config


def test_the_papers_methods_and_models_are_there():
    assert {"luffy", "mixed", "on_policy", "rl_sft_loss", "sft_rl"} < set(EXPERIMENTS)
    assert PROFILES == ["cpu", "gpu"]
    assert MODELS == ["llama_3_1_8b", "qwen2_5_7b_instruct", "qwen2_5_math_1_5b", "qwen2_5_math_7b"]


@pytest.mark.parametrize(("profile", "experiment"), itertools.product(PROFILES, EXPERIMENTS))
def test_experiment(profile: str, experiment: str):
    config = checked(*choice_of(profile, experiment))
    assert config.trainer.experiment_name == experiment
    luffy = LuffyConfig.from_mapping(OmegaConf.to_container(config.luffy))
    assert luffy.objective == replace(load_method(experiment), constant_length=config.data.max_response_length)
    if experiment in PAPER:
        assert luffy.guidance.n_demonstrations == (0 if experiment in ("on_policy", "sft_rl") else 1)
        assert luffy.objective.shaping == (Identity() if experiment == "mixed" else PDivP(gamma=0.1))
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
    assert of_model(composed("profile=gpu"), model) == composed("profile=gpu", f"paper_model={model}")
    config = checked("profile=gpu", f"paper_model={model}")
    assert config.actor_rollout_ref.model.path == path
    assert config.reward.reward_kwargs.thought_gate is gate
    assert config.trainer.n_gpus_per_node // config.actor_rollout_ref.rollout.tensor_model_parallel_size == copies
    assert (config.data.max_response_length, config.trainer.total_training_steps) == (8192, 500)
    if model == "qwen2_5_math_7b":  # the profile's own
        assert config == composed("profile=gpu")


ON_GPUS = itertools.product(["gpu"], EXPERIMENTS, MODELS)
ON_A_CPU = zip(itertools.repeat("cpu"), EXPERIMENTS, itertools.cycle(MODELS))  # a paper's model is not trained there: one for each


@pytest.mark.slow
@pytest.mark.parametrize("choice", [*ON_GPUS, *ON_A_CPU], ids="-".join)
def test_every_combination(choice: tuple[str, str, str]):
    profile, experiment, model = choice
    checked(*choice_of(profile, experiment), model=model)


@pytest.mark.parametrize("script", RELEASED)
def test_released_script_is_the_experiment_of_its_name(script: str):
    """Each of the released scripts, translated, passes every check by name and value, and trains as the experiment does."""
    new, dropped = translate(RELEASED[script])
    overrides = [f"{key}={value}" for key, value in new.items()]
    check_overrides(["profile=gpu", *overrides])
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


def test_a_translated_shaping_has_its_own_parameters_alone():
    """The released code accepts those of the others and does not read them; here they would stop the run."""
    new, dropped = translate(
        [f"actor_rollout_ref.actor.off_policy_reshape{each}" for each in ("=p_div_p_0.1", "_pow_exp=0.3", "_weight=1")]
    )
    assert new["luffy.objective.shaping.gamma"] == "0.1" and not {key for key in new if key.endswith(("exponent", "weight"))}
    assert dropped["actor_rollout_ref.actor.off_policy_reshape_pow_exp"] == "shaping p_div_p does not read it"
    new, dropped = translate(["actor_rollout_ref.actor.off_policy_reshape=pow", "actor_rollout_ref.actor.off_policy_reshape_pow_exp=0.3"])
    assert new["luffy.objective.shaping.exponent"] == "0.3" and not dropped
    assert translate(["actor_rollout_ref.actor.off_policy_reshape=p_div_p_0.7"])[1] == {
        "actor_rollout_ref.actor.off_policy_reshape": "set by hand: luffy.objective.shaping.name=p_div_p (or identity, log, p_plus_log, "
        "sqrt, pow) luffy.objective.shaping.gamma=0.1"
    }


def test_llama_prompt():
    template = Template((CONFIG / "paper_model" / "llama_3_1_8b.jinja").read_text())
    chat = [{"role": "system", "content": "Think."}, {"role": "user", "content": "1+1?"}]
    rendered = template.render(messages=chat, bos_token="<|begin_of_text|>", add_generation_prompt=True)
    assert rendered == "<|begin_of_text|>User: 1+1?\nAnswer: Let's think step by step."


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_names_an_experiment(script: Path):
    text = script.read_text()
    if script.name == "train_method.sh":
        return
    named = re.findall(r'run\.sh"? (\w+)', text)
    assert named == [] if script.name == "train_sft.sh" else set(named) <= set(EXPERIMENTS) and len(named) == 1
    assert "main_sft" in text or named
    assert len(text.splitlines()) <= 20


def test_title_and_paper_are_those_of_the_readmes_table():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, method in METHODS.items():
        config = composed(*choice_of("cpu", name)) if method.experiment else composed(module=SFT_MODULE)
        script = "train.sh" if name == "luffy" else f"train_{name}.sh" if name in PAPER else f"train_method.sh {name}"
        assert f"| `exp_scripts/{script}` | {config.method.title} | {config.method.paper} |" in readme
    assert [name for name in METHODS if name in PAPER] == ["on_policy", "mixed", "luffy", "rl_sft_loss", "sft", "sft_rl"]
    assert METHODS["sft_rl"].starts_from == "sft"


def test_every_experiment_has_a_script():
    text = "".join(script.read_text() for script in SCRIPTS)
    assert set(re.findall(r'run\.sh"? (\w+)', text)) == set(EXPERIMENTS) & set(PAPER)
    assert {method.experiment for method in METHODS.values()} == {*EXPERIMENTS, None}


def test_a_method_is_trained_by_its_name():
    done = subprocess.run(["bash", "exp_scripts/train_method.sh", "hpd"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("error: there is no method 'hpd'; choose one of ") and " hpt " in done.stderr


@pytest.mark.parametrize(
    ("regime", "method", "prompts"),
    [("main", "luffy", 16), ("main", "sft", 16), ("main", "sft_rl", 16), ("traces_16", "luffy", 8), ("long", "sft", 16)],
)
def test_comparison_command(regime: str, method: str, prompts: int, tmp_path: Path):
    (cell,) = (cell for cell in plan([regime], [7]) if cell.method.name == method)
    module, *overrides = training_command(cell, Folders(tmp_path))
    config = composed(*overrides, module=module)
    preflight.refuse(preflight.SFT_CONFIG if module == SFT_MODULE else preflight.RL_CONFIG, config)
    assert config.luffy.run.seed == 7
    assert config.data.train_batch_size == prompts
    assert config.trainer.default_local_dir == str(tmp_path / "cells" / regime / method / "seed7")


def test_every_method_composes_where_traces_are_chosen_among(tmp_path: Path):
    for cell in plan(["teachers"], [7], methods=list(METHODS)):
        module, *overrides = training_command(cell, Folders(tmp_path))
        config = composed(*overrides, module=module)
        preflight.refuse(preflight.SFT_CONFIG if module == SFT_MODULE else preflight.RL_CONFIG, config)
        assert config.data.max_response_length == cell.regime.response_tokens
        if module == RL_MODULE:
            luffy = LuffyConfig.from_mapping(OmegaConf.to_container(config.luffy, resolve=True))
            assert luffy.reads_traces or luffy.teacher.privileged is not None or not cell.method.reads_traces, cell.name
            assert luffy.objective.reads_teacher == (cell.method.teacher or cell.method.name == "opsd"), cell.name


def test_all_variants_of_ablations_are_valid(tmp_path: Path):
    base = OmegaConf.create(luffy_node())
    seen = []
    for variant in [variant for name in ABLATIONS for variant in ablation(name)]:
        command = training_command(Cell(regime=MAIN, method=variant, seed=0, steps=60), Folders(tmp_path))
        node = OmegaConf.create({"luffy": base, "data": {"max_response_length": 8192}})
        node.luffy.run.seed = 0
        node = OmegaConf.merge(node, OmegaConf.from_dotlist([each for each in command if each.startswith("luffy.")]))
        config = LuffyConfig.from_mapping(OmegaConf.to_container(node.luffy, resolve=True))
        config.guidance.check_group_size(8)
        seen.append(config)
    assert [seen.count(config) for config in seen].count(1) == len(seen) - 5  # each ablation has the paper's setting
    assert max(config.objective.shaping.gamma for config in seen) == 0.5
    assert {config.guidance.n_demonstrations for config in seen} == {1, 2, 4}
