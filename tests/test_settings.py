"""The generated ``luffy:`` node: every key, at its default, with its meaning."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from luffy.config import LuffyConfig, annotated, luffy_node
from luffy.errors import InputError
from luffy.objective import ObjectiveConfig
from luffy.objective.shaping import PDivP


def test_the_node_is_the_defaults():
    node = luffy_node()
    assert node["guidance"]["seed"] == "${luffy.run.seed}"
    assert node["objective"]["constant_length"] == "${data.max_response_length}"  # the paper's is 8192
    node["guidance"]["seed"], node["store"]["seed"], node["objective"]["constant_length"] = 0, 0, 8192
    assert LuffyConfig.from_mapping(node) == LuffyConfig()
    assert len([key for section in node.values() for key in section]) > 40
    assert node["objective"]["shaping"] == {"name": "p_div_p", "weight": None, "exponent": None, "gamma": 0.1}


def test_what_is_printed_is_the_node_and_every_key_has_a_comment():
    shown = annotated()
    assert yaml.safe_load(shown) == luffy_node()
    for before, line in zip(shown.splitlines(), shown.splitlines()[1:], strict=False):
        if line.startswith("  ") and not line.lstrip().startswith("#"):
            assert before.lstrip().startswith("#") or line.startswith("    "), line
    assert "  # γ" not in shown.splitlines()[0]


def test_replace_checks_again():
    config = replace(LuffyConfig().objective, shaping=PDivP(gamma=1.0))
    assert (config.shaping.gamma, config.aggregation) == (1.0, "constant")


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_infinity_is_refused_as_what_it_is(value):
    with pytest.raises(InputError, match=f"luffy.objective.clip_high is {value}; it must be a finite number of at least 0, or null"):
        ObjectiveConfig(clip_high=value)
