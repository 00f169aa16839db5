"""Everything that can be known to be wrong before Ray starts, each as one line that says what to do.

``overrides`` looks at the names that were typed, ``settings`` at the composed config, ``inputs`` at data and model, ``machine``
at devices, ``needs`` at disk and memory, ``ray_cluster`` at Ray. A check is a function of the config that yields lines or raises InputError; it joins by its
name in the ``CHECKS`` of its module.
"""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig

from luffy.errors import InputError
from verl.mix_src.preflight import inputs, machine, modes, needs, ray_cluster, settings
from verl.mix_src.preflight.inputs import row_lengths
from verl.mix_src.preflight.machine import check_extension
from verl.mix_src.preflight.overrides import check_command_line, check_overrides
from verl.mix_src.preflight.problems import found_by

__all__ = [
    "check_command_line", "check_config", "check_extension", "check_machine", "check_overrides", "config_problems",
    "machine_problems", "row_lengths",
]  # fmt: skip


def config_problems(config: DictConfig) -> Iterator[str]:
    """Where keys of the composed config are wrong or contradict each other."""
    return found_by((*settings.CHECKS, *modes.CHECKS), config)


def machine_problems(config: DictConfig) -> Iterator[str]:
    """What is missing or in the way on this machine: files, model, devices, Ray."""
    return found_by((*inputs.CHECKS, *machine.CHECKS, *needs.CHECKS, *ray_cluster.CHECKS), config)


def check_config(config: DictConfig) -> None:
    """Raise InputError at the first of :func:`config_problems`."""
    for problem in config_problems(config):
        raise InputError(problem)


def check_machine(config: DictConfig) -> None:
    """Raise InputError at the first of :func:`machine_problems`."""
    for problem in machine_problems(config):
        raise InputError(problem)
