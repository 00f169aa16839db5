"""The shipped ``luffy:`` node and the dataclasses say the same."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import yaml

from luffy.config import LuffyConfig

FILE = Path(__file__).resolve().parent.parent / "verl" / "mix_src" / "config" / "luffy.yaml"


def test_yaml_holds_every_key_with_its_default() -> None:
    node = yaml.safe_load(FILE.read_text())
    node["guidance"]["seed"] = node["run"]["seed"]  # an interpolation in the file
    assert node["objective"]["constant_length"] == "${data.max_response_length}"  # the paper's is 8192
    node["objective"]["constant_length"] = 8192
    assert LuffyConfig.from_mapping(node) == LuffyConfig.from_mapping({})
    for section in fields(LuffyConfig):
        known = {each.name for each in fields(type(getattr(LuffyConfig(), section.name)))}
        if section.name == "objective":
            known -= {"entropy_coefficient"}  # set in luffy.entropy.coefficient
        assert set(node[section.name]) == known


def test_every_key_has_a_comment() -> None:
    lines = FILE.read_text().splitlines()
    for before, line in zip(lines, lines[1:], strict=False):
        if line.startswith("  ") and not line.lstrip().startswith("#"):
            assert before.lstrip().startswith("#"), line
