"""How the answers of each data source are judged: a kind of the house, one that a package registers, or a user's own function.

A package registers a kind by an entry point of the group ``luffy.answers``, whose name is the kind and whose object reads the answer
of a response: a function of the text after the thought, to the answer, or None where there is none. The answer is right when it is
the gold answer to the letter. The function runs in the caller's process, without the limits of a worker. The object may also have
that function as ``read``, and beside it ``score``, a function of answer and gold answer, to how right it is in [0, 1]: that one runs in a
worker, with its limits, after the object's ``prepare``, which imports what it needs. A data source of several tasks names
them behind a colon: ``gym:chain_sum`` is of the kind ``gym``.
"""

from __future__ import annotations

import importlib.util
import inspect
import logging
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from luffy.benchmarks import CHOICE, MATH, benchmark_kind, plain_name
from luffy.errors import InputError

logger = logging.getLogger(__name__)

EXACT = "exact"
GROUP = "luffy.answers"
_MATH_SOURCES = re.compile(r".*(math|aime|aimo|amc|olympiad|minerva|gsm|openr1|numina|deepscaler|omni|dapo).*")
"""Names of sources that are no benchmark, as :func:`~luffy.benchmarks.plain_name` makes them."""

Reader = Callable[[str], str | None]
Score = Callable[[str, str], float]


@cache
def kind_for(data_source: str) -> str:
    """The kind of a data source; of one that is not known, mathematics, with a warning at the first time.

    Args:
        data_source: the row's ``data_source``; case, an owner before ``/`` and punctuation do not matter.

    Returns:
        ``"choice"`` or ``"math"`` for the usual sets, or the registered kind whose name it is, alone or behind ``luffy_``.
    """
    name = plain_name(data_source)
    for kind in _registered():
        if name in (plain_name(kind), "luffy" + plain_name(kind)) or data_source.startswith(f"{kind}:"):
            return kind
    if known := benchmark_kind(data_source):
        return known
    if not _MATH_SOURCES.fullmatch(name):
        logger.warning("data source %r is not known: its answers are judged as mathematics (docs/rewards.md names the kinds)", data_source)
    return MATH


def check_kind(kind: str) -> None:
    """Stop at a kind that is neither of the house nor registered.

    Raises:
        InputError: with the kinds that there are.
    """
    if kind not in (MATH, CHOICE, EXACT) and kind not in _registered():
        raise InputError(f"unknown kind of answer {kind!r}: use one of {', '.join((MATH, CHOICE, *_registered(), EXACT))}")


@cache
def reader_of(kind: str) -> Reader:
    """The function that a package registered for a kind.

    Raises:
        InputError: it cannot be imported.
    """
    entry, found = _registered()[kind], _loaded(kind)
    return found if callable(found) else _part(found, "read", entry)


def scores(kind: str) -> bool:
    """Whether a package registered a kind with a scorer of its own."""
    return kind not in (MATH, CHOICE, EXACT) and hasattr(_loaded(kind), "score")


def prepare_scorer(kind: str) -> Score:
    """The scorer of a kind, ready to run, in a worker's process.

    Raises:
        InputError: it, or what it needs, cannot be imported.
    """
    found, entry = _loaded(kind), _registered()[kind]
    try:
        getattr(found, "prepare", lambda: None)()
    except ImportError as error:
        raise InputError(
            f"answers of kind {kind!r} cannot be judged: {error}; install what it needs (pip install 'luffy-rl[{kind}]')"
        ) from error
    return _part(found, "score", entry)


def _part(found: Any, name: str, entry: EntryPoint) -> Any:
    if not callable(part := getattr(found, name, None)):
        raise InputError(f"answers of kind {entry.name!r} cannot be read: {entry.value} is no function and has none that is called {name}")
    return part


@cache
def _loaded(kind: str) -> Any:
    entry = _registered()[kind]
    try:
        return entry.load()
    except Exception as error:  # another package's code, whose every failure is reported as one
        raise InputError(f"answers of kind {kind!r} cannot be read: {entry.value} does not load: {error}") from error


@cache
def _registered() -> dict[str, EntryPoint]:
    """The registered kinds; looked up once a process."""
    found: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda each: each.name):
        if entry.name in (MATH, CHOICE, EXACT) or found.setdefault(entry.name, entry).value != entry.value:
            raise InputError(f"kind of answer {entry.name!r} is taken: {entry.value} (entry point of {GROUP}) needs another name")
    return found


ARGUMENTS = ("data_source", "solution_str", "ground_truth", "extra_info")
"""What every reward function of a user's own is called with, by keyword."""


def load_reward(path: str | Path, name: str = "compute_score", keywords: Mapping[str, Any] | None = None) -> Callable[..., Any]:
    """A user's own reward function, plain or ``async``, loaded as veRL would and checked to be callable as it will be.

    Args:
        path: Python file.
        name: the function in it; it takes ``ARGUMENTS`` by keyword, and returns a number or a dict with ``score``.
        keywords: what else it is called with (``reward_kwargs``).

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
    names = (*ARGUMENTS, *(keywords or ()))
    try:
        inspect.signature(function).bind(**dict.fromkeys(names))
    except TypeError as error:
        raise InputError(f"{path}:{name} cannot be called with {', '.join(names)} ({error}): take these, or **kwargs") from error
    return function
