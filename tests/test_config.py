"""The luffy node of a config, the entropy coefficients, and the released code's option names."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from luffy.config import LuffyConfig, in_new_names
from luffy.errors import InputError
from luffy.objective import ObjectiveConfig
from luffy.objective.entropy import EntropyConfig, make_entropy_coefficient
from luffy.objective.shaping import Identity, PDivP
from luffy.released_options import RELEASED_OPTIONS, explain

DOCS = Path(__file__).parent.parent / "docs"


def test_defaults_are_the_released_scripts():
    config = LuffyConfig.from_mapping(None)
    assert config == LuffyConfig()
    assert (config.guidance.n_demonstrations, config.guidance.schedule) == (1, "full")
    objective = config.objective
    assert (objective.shaping, objective.on_policy_shaping) == (PDivP(gamma=0.1), Identity())
    assert (objective.aggregation, objective.constant_length) == ("constant", 8192)
    assert (objective.clip_low, objective.clip_high, objective.dual_clip) == (None, None, None)
    assert (config.entropy.coefficient, objective.kl_coefficient) == (0.001, 0.0)
    assert (config.advantage.baseline, config.advantage.normalize_std) == ("group", False)


def test_values_arrive():
    config = LuffyConfig.from_mapping(
        {
            "guidance": {"n_demonstrations": 2, "schedule": "linear", "steps": 300, "max_ratio": 0.8},
            "objective": {"shaping": {"name": "p_div_p", "gamma": 0.3}, "aggregation": "token_mean", "clip_low": 0.2, "clip_high": 0.28},
            "advantage": {"normalize_std": True},
            "entropy": {"coefficient": 0.01, "mode": "learned", "target": 0.5},
        }
    )
    assert config.guidance.steps == 300
    assert config.objective == ObjectiveConfig(shaping=PDivP(gamma=0.3), aggregation="token_mean", clip_low=0.2, clip_high=0.28)
    assert config.advantage.normalize_std
    assert config.entropy.target == 0.5


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"objektive": {}}, "unknown key luffy.objektive; did you mean luffy.objective?"),
        ({"guidance": {"min_ration": 0.5}}, "unknown key luffy.guidance.min_ration; did you mean luffy.guidance.min_ratio?"),
        ({"advantage": {"xyz": 1}}, "unknown key luffy.advantage.xyz; known keys: baseline, normalize_std, zero_truncated"),
        ({"advantage": {"normalize_std": 1}}, "luffy.advantage.normalize_std is 1; it must be true or false"),
        ({"guidance": {"seed": "1"}}, "luffy.guidance.seed is '1'; it must be an integer"),
        ({"guidance": {"steps": 1.5}}, "luffy.guidance.steps is 1.5; it must be an integer above 0, or null"),
        ({"guidance": 3}, "luffy.guidance is 3; it must be a mapping"),
        ("p_div_p", "luffy is 'p_div_p'; it must hold guidance, objective"),
        ({"objective": {"entropy_coefficient": 0.1}}, "luffy.objective.entropy_coefficient is now luffy.entropy.coefficient; set it there"),
        ({"objective": {"gamma": 0.1}}, "luffy.objective.gamma is now luffy.objective.shaping.gamma; set it there"),
        ({"objective": {"gama": 0.1}}, "unknown key luffy.objective.gama; did you mean luffy.objective.shaping.gamma?"),
        ({"objective": {"shaping": "sqrt"}}, "set luffy.objective.shaping.name=sqrt"),
        (
            {"objective": {"shaping": {"name": "identity", "gamma": 0.3}}},
            "luffy.objective.shaping.gamma is 0.3, but shaping identity does not",
        ),
        (
            {"objective": {"on_policy_shaping": {"name": "sqrt", "gamma": 1.0}}},
            "luffy.objective.on_policy_shaping.gamma is 1.0, but shaping sqrt",
        ),
        ({"entropy": {"target": 0.5}}, "luffy.entropy.target is 0.5, but mode fixed does not read it"),
        ({"entropy": {"mode": "rule", "coefficient": 0.0}}, "luffy.entropy.coefficient is 0, from which mode rule cannot"),
        ({"guidance": {"n_demonstrations": -1}, "advantage": {"baseline": "on_policy"}}, "leaves no on-policy row"),
        ({"guidance": {"n_demonstrations": 0}, "objective": {"sft_coefficient": 1.0}}, "there is nothing to imitate"),
    ],
)
def test_mistakes_are_named(mapping, message):
    with pytest.raises(InputError, match=re.escape(message)):
        LuffyConfig.from_mapping(mapping)


def test_fixed_coefficient_stays():
    coefficient = make_entropy_coefficient(EntropyConfig(coefficient=0.01))
    coefficient.update(5.0)
    assert coefficient.value == 0.01


def test_rule_is_the_target_over_the_entropy():
    coefficient = make_entropy_coefficient(EntropyConfig(mode="rule", coefficient=0.01, target=0.5, max_coefficient=0.04))
    assert coefficient.value == 0.01
    coefficient.update(0.25)
    assert coefficient.value == pytest.approx(0.02)
    coefficient.update(0.0)
    assert coefficient.value == 0.04


def test_learned_coefficient_takes_adams_steps():
    """Adam's first step is lr · sign(gradient), whatever its size: down where the entropy is above its target."""
    for entropy, sign in ((3.0, -1), (0.2, 1)):
        coefficient = make_entropy_coefficient(EntropyConfig(mode="learned", coefficient=0.01, learning_rate=0.1))
        assert coefficient.value == pytest.approx(0.01, rel=1e-12)
        coefficient.update(entropy)
        expected = 0.01 * torch.tensor(0.1 * sign, dtype=torch.float64).exp().item()
        assert coefficient.value == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("mode", ["fixed", "learned", "rule"])
def test_a_coefficient_goes_on_from_its_state(mode):
    config = EntropyConfig(mode=mode, coefficient=0.01)
    straight, first, second = (make_entropy_coefficient(config) for _ in range(3))
    for entropy in (0.5, 2.0, float("nan"), 0.7):
        straight.update(entropy)
        first.update(entropy)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))  # as a checkpoint keeps it
    for each in (straight, second):
        each.update(0.9)
    assert second.value == straight.value


@pytest.mark.parametrize(
    ("override", "replacement"),
    [
        (
            "actor_rollout_ref.actor.off_policy_reshape=p_div_p_0.3",
            "luffy.objective.shaping.name=p_div_p luffy.objective.shaping.gamma=0.3",
        ),
        ("+actor_rollout_ref.actor.off_policy_reshape='square_root'", "luffy.objective.shaping.name=sqrt"),
        ("actor_rollout_ref.actor.off_policy_max_clip=-1", "luffy.objective.off_policy_max_clip=null"),
        ("actor_rollout_ref.actor.off_policy_max_clip=0.5", "luffy.objective.off_policy_max_clip=0.5"),
        ("++actor_rollout_ref.actor.loss_remove_token_mean=True", "luffy.objective.aggregation=constant"),
        ("actor_rollout_ref.rollout.n_prefix=-1", "luffy.guidance.n_demonstrations=-1"),
        ("algorithm.adv_estimator=grpo_split", "luffy.advantage.baseline=on_policy"),
        ("actor_rollout_ref.actor.off_policy_normalize=False", "the released code does not read it"),
    ],
)
def test_released_options_are_explained(override, replacement):
    message = explain(override)
    assert message.endswith(f": {replacement}")
    assert override.lstrip("+").partition("=")[0] in message


@pytest.mark.parametrize("override", ["luffy.objective.shaping.gamma=0.3", "algorithm.adv_estimator=luffy", "trainer.nnodes=2"])
def test_other_overrides_pass(override):
    assert explain(override) is None


def test_a_record_of_an_earlier_version_is_read_by_todays_keys():
    old = {
        "luffy.objective.shaping": "p_div_p", "luffy.objective.gamma": 0.3, "luffy.objective.exponent": 0.5,
        "luffy.objective.on_policy_shaping": "log", "luffy.objective.on_policy_shaping_weight": 0.2, "luffy.objective.on_policy_gamma": 0.1,
        "luffy.run.seed": 1, "optim.lr": 0.1,
    }  # fmt: skip
    assert in_new_names(old) == {
        "luffy.objective.shaping.name": "p_div_p", "luffy.objective.shaping.gamma": 0.3,
        "luffy.objective.on_policy_shaping.name": "log", "luffy.objective.on_policy_shaping.weight": 0.2,
        "luffy.run.seed": 1, "optim.lr": 0.1,
    }  # fmt: skip
    assert in_new_names(in_new_names(old)) == in_new_names(old)


def test_every_new_key_exists():
    sections = {each.name: {key.name for key in fields(each.default_factory)} for each in fields(LuffyConfig)}
    keys = 0
    for option in RELEASED_OPTIONS:
        for text in (*option.by_value.values(), option.otherwise):
            for section, key in re.findall(r"luffy\.(\w+)\.(\w+)", text):
                assert key in sections[section], text
                keys += 1
    assert keys > 50


def test_the_table_in_the_docs_is_the_programs():
    table = (DOCS / "migrating.md").read_text(encoding="utf-8")
    for option in RELEASED_OPTIONS:
        assert f"| `{option.key}` |" in table, option.key
        for text in (*option.by_value.values(), option.otherwise):
            for new in re.findall(r"[\w.]+=[^ ;]+", text) if not text.startswith("dropped") else ():
                assert new.replace("{value}", "…") in table, (option.key, new)


@pytest.mark.parametrize("section", ["guidance", "objective", "advantage", "entropy"])
def test_the_fidelity_table_names_keys_that_exist(section):
    named = set(re.findall(rf"`{section}\.([a-z_]+)", (DOCS / "fidelity.md").read_text(encoding="utf-8")))
    assert named
    assert named <= {each.name for each in fields(getattr(LuffyConfig(), section))}
