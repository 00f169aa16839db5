"""A user's own reward: a Python function by file and name, called as veRL calls it."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from luffy.errors import InputError

ARGUMENTS = ("data_source", "solution_str", "ground_truth", "extra_info")
"""What every reward function is called with, by keyword."""


def load_reward(path: str | Path, name: str = "compute_score", keywords: Mapping[str, Any] | None = None) -> Callable[..., Any]:
    """Load a reward function and check that it can be called as it will be.

    Args:
        path: Python file.
        name: the function in it; plain or ``async``; it takes ``ARGUMENTS`` by keyword, and returns a number or a dict
            with ``score``.
        keywords: what else it is called with (``reward_kwargs``).

    Returns:
        The function.

    Raises:
        InputError: no such file, the file fails to load, no such function, or it takes other arguments.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no reward function file {path}: give the path of a Python file")
    spec = importlib.util.spec_from_file_location("luffy_custom_reward", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is no Python file: its name must end with .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's own code, whose every failure is reported as one
        raise InputError(f"the reward file {path} does not load: {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise InputError(f"{path} has no function {name}: define it, or name another")
    _check_arguments(function, (*ARGUMENTS, *(keywords or ())), f"{path}:{name}")
    return function


def _check_arguments(function: Callable[..., Any], names: tuple[str, ...], where: str) -> None:
    try:
        inspect.signature(function).bind(**dict.fromkeys(names))
    except TypeError as error:
        raise InputError(f"{where} cannot be called with {', '.join(names)} ({error}): take these, or **kwargs") from error
