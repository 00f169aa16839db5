"""The objective of a method, as its experiment file sets it; for checks without Hydra and veRL."""

from __future__ import annotations

import difflib
from pathlib import Path

import yaml

from luffy.errors import InputError
from luffy.objective.config import ObjectiveConfig
from luffy.settings import build

EXPERIMENTS = Path(__file__).resolve().parents[2] / "verl" / "mix_src" / "config" / "experiment"
"""Beside the library, in a checkout as in an installed package; read as files, so that nothing of veRL is imported."""


def load_method(name: str) -> ObjectiveConfig:
    """The objective's settings of an experiment.

    Args:
        name: of the experiment, such as ``hpt``: the file ``verl/mix_src/config/experiment/NAME.yaml``.

    Returns:
        Its settings; what the file leaves out has its default. ``constant_length`` is the paper's 8192: in a training it
        follows ``data.max_response_length``.

    Raises:
        InputError: there is no such experiment.
    """
    file = EXPERIMENTS / f"{name}.yaml"
    if name not in (known := methods()):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        raise InputError(f"there is no method '{name}'; " + (f"did you mean {near[0]}?" if near else f"choose one of {', '.join(known)}"))
    luffy = yaml.safe_load(file.read_text(encoding="utf-8")).get("luffy") or {}
    return build(ObjectiveConfig, luffy.get("objective"), "luffy.objective")


def methods() -> list[str]:
    """Names of the experiments.

    Raises:
        InputError: their files are not beside the library.
    """
    if not EXPERIMENTS.is_dir():
        raise InputError(f"{EXPERIMENTS} is missing; install the whole project, whose experiments are there")
    return sorted(file.stem for file in EXPERIMENTS.glob("*.yaml"))
