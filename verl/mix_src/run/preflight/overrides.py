"""Overrides as they were typed: every key must exist, and a training must read it.

Which keys of veRL's config a training reads is found in the source that it runs. A key counts as read where that source takes its name
from something (``x.key``, ``x["key"]``, ``x.get("key")``) and does so for every node above it. What the extension replaces or never
starts does not count. So a key that steers a loss of veRL's own is unread here, whatever it is called and whichever version of veRL
adds it. The search is by name: it may take a key for read that is not, never the other way round.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

import verl
import verl.mix_src
from luffy.config import LuffyConfig
from luffy.errors import InputError
from luffy.released_options import explain
from verl.mix_src.upstream import (
    ALL_KEYS,
    HANDED_ON,
    IGNORES_ARGUMENTS,
    INSTEAD,
    NOT_STARTED,
    REPLACED,
    REPLACED_KINDS,
    SWITCHED,
    SWITCHED_OFF,
)

RL_CONFIG = "mix_ppo"
SWITCHES = ("enable", "enabled")
ALWAYS_ON = ("transfer_queue",)  # the V1 trainer turns it on by itself
OWN = ("luffy", "method", "hydra", "dry_run")
OTHER_CONFIGS = ("--config-", "-cd", "-cn", "-cp")
TRAINER_MODES = ("sync", "colocate_async", "separate_async")

Chain = tuple[str, ...]  # names from the last one back: ("lr", "optim", "config") of config.optim.lr


def check_command_line(arguments: Sequence[str], *, module: str = "verl.mix_src.config", name: str = RL_CONFIG) -> None:
    """:func:`check_overrides` for what was typed after a command; Hydra's own flags and their values are left to Hydra."""
    overrides = [each for each in arguments if not each.startswith("-") and ("=" in each or each.startswith("~"))]
    if any(each.startswith(OTHER_CONFIGS) for each in arguments):
        _check_names(overrides)  # the rest of the config is in files of the user's, which Hydra finds
    else:
        check_overrides(overrides, module=module, name=name)


def check_overrides(overrides: Sequence[str], *, module: str = "verl.mix_src.config", name: str = RL_CONFIG) -> None:
    """Check Hydra overrides before Hydra's own start, which would answer some with a traceback and others not at all.

    Args:
        overrides: as typed, ``key=value``, ``+key=value`` or ``~key``.
        module: the package of config files that they override.
        name: the primary config there.

    Raises:
        InputError: on an option of LUFFY's released code (with the new key), an unknown key (with the nearest known one), or a
            key of veRL that this training would not read (with what to do instead).
    """
    _check_names(overrides)
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        config, groups = _composed(overrides, module, name)
    except HydraException as error:
        said = " ".join(str(error).partition("Config search path")[0].partition("See https")[0].split())
        raise InputError(_unknown(overrides, module, name) or said) from error
    if name == RL_CONFIG:
        for problem in unread([each.key_or_group for each in parsed if _is_value(each, groups)], config):
            raise InputError(problem)


def _check_names(overrides: Sequence[str]) -> None:
    for override in overrides:
        if message := explain(override):
            raise InputError(message)
        key, _, value = override.lstrip("+~").partition("=")
        if key.startswith("luffy."):
            LuffyConfig.check_key(key)
        if key == "model_engine" and value != "dp":
            raise InputError(f"model_engine={value}: the gradient of this extension is tested on veRL's FSDP engine alone; leave it out")


def unread(keys: Sequence[str], config: DictConfig) -> Iterator[str]:
    """A line for each key that was set and that a training with ``config`` does not read."""
    for key in keys:
        if key.partition(".")[0] in OWN:
            continue
        if not _helps(key):
            instead = next((INSTEAD[each] for each in _above(key) if each in INSTEAD), None)
            yield f"{key} has no effect here: {instead or 'nothing in a LUFFY training reads it; leave it out'}"
        elif switch := _switch_against(key, config):
            value = OmegaConf.select(config, switch)
            said = "null" if value is None else str(value).lower()
            yield f"{key} has no effect while {switch} is {said}: change that too, or leave {key} out"


def _helps(key: str) -> bool:
    """Whether it does anything to set a key."""
    first = key.partition(".")[0]
    return first in OWN or (first not in INSTEAD and is_read(key))


def _switch_against(key: str, config: DictConfig) -> str | None:
    """The key that keeps ``key`` from being read; None where nothing does."""
    part = key.split(".")
    if part[:2] == ["trainer", "v1"] and part[2] in TRAINER_MODES:
        return None if config.trainer.v1.trainer_mode == part[2] else "trainer.v1.trainer_mode"
    if _is_on(config, other := SWITCHED_OFF.get(key, "")):
        return other
    above = _above(key)
    needed = [SWITCHED[each] for each in above if each in SWITCHED]
    for node in above[1:]:
        own = [f"{node}.{name}" for name in SWITCHES if OmegaConf.is_dict(below := OmegaConf.select(config, node)) and name in below]
        needed += [own] if own and node not in ALWAYS_ON else []
    return next((any_of[0] for any_of in needed if key not in any_of and not any(_is_on(config, each) for each in any_of)), None)


def _is_on(config: DictConfig, key: str) -> bool:
    return bool(key) and OmegaConf.select(config, key) not in (None, False, 0, "disable", "auto")


def _above(key: str) -> list[str]:
    """The key itself and every node above it, from the inside out."""
    parts = key.split(".")
    return [".".join(parts[:length]) for length in range(len(parts), 0, -1)]


def _is_value(override: Override, groups: Sequence[str]) -> bool:
    return override.key_or_group not in groups and "/" not in override.key_or_group and not override.is_delete()


def _composed(overrides: Sequence[str], module: str, name: str) -> tuple[DictConfig, list[str]]:
    """The config with these overrides, and the names of its groups of files (``profile``, ``experiment``, ...)."""
    with initialize_config_module(module, version_base=None):
        config = compose(name, overrides=list(overrides), return_hydra_config=True)
    return config, list(config.hydra.runtime.choices)


def _unknown(overrides: Sequence[str], module: str, name: str) -> str | None:
    """What is wrong with the first override that names a key that is not there; None where another thing is wrong."""
    try:
        config, groups = _composed((), module, name)
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException:
        return None
    known = _keys(config)
    useful = [*groups, *sorted(each for each in known if not each.startswith("hydra"))]
    for override in parsed:
        key = override.key_or_group
        if _is_value(override, groups) and not override.is_add() and not override.is_force_add() and key not in known:
            if any(each in HANDED_ON for each in _above(key)):
                return f"{key} is not there yet: +{key}=... adds it"
            near = _nearest(key, useful, _helps if name == RL_CONFIG else bool)
            return f"unknown key {key}; " + (f"did you mean {near}?" if near else "see --cfg job for every key")
    return None


def _keys(config: DictConfig) -> set[str]:
    """Every node and key of the config, with its full name."""

    def below(tree: Any, prefix: str) -> Iterator[str]:
        for name, value in tree.items() if isinstance(tree, dict) else ():
            yield prefix + str(name)
            yield from below(value, f"{prefix}{name}.")

    return set(below(OmegaConf.to_container(config), ""))


def _nearest(key: str, known: Sequence[str], helps: Callable[[str], bool]) -> str | None:
    """The known key that was meant: the same name at another place, else the most similar one; unread ones are no help."""
    leaf = key.rpartition(".")[2]
    same = [each for each in known if each.rpartition(".")[2] == leaf]
    for candidates, cutoff in ((same, 0.0), (known, 0.6)):
        for near in difflib.get_close_matches(key, candidates, n=5, cutoff=cutoff):
            if "." not in near or helps(near):
                return near
    return None


def is_read(key: str) -> bool:
    """Whether a training reads veRL's key, as ``actor_rollout_ref.actor.grad_clip``."""
    if any(key == node or key.startswith(f"{node}.") for node in HANDED_ON):
        return True
    path = tuple(key.split("."))
    return all(_reads(path[: length + 1]) for length in range(len(path)))


@cache
def _reads(path: Chain) -> bool:
    return _source().reads(path)


class CodeRead:
    """The source files that a training runs, parsed when a name is looked for."""

    def __init__(self, files: Sequence[Path], nodes: Iterable[str]) -> None:
        self._text = {file: file.read_text(encoding="utf-8") for file in files}
        self._chains: dict[Path, list[Chain]] = {}
        self._nodes = frozenset(nodes)  # where such a name stands before a key, the key is below that node and no other

    def reads(self, path: Sequence[str]) -> bool:
        """Whether some place takes the last name of ``path`` from what may be the node before it."""
        word = re.compile(rf"\b{re.escape(path[-1])}\b")
        return any(self._fits(chain, path) for file, text in self._text.items() if word.search(text) for chain in self._of(file))

    def _fits(self, chain: Chain, path: Sequence[str]) -> bool:
        if chain[0] != path[-1]:
            return False
        above = [*reversed(path[:-1]), None]
        for name, wanted in zip(chain[1:], above, strict=False):
            if name != wanted:
                return name not in self._nodes
        return True

    def _of(self, file: Path) -> list[Chain]:
        if file not in self._chains:
            self._chains[file] = list(_chains(ast.parse(self._text[file])))
        return self._chains[file]


@cache
def _source() -> CodeRead:
    upstream, own = Path(verl.__file__).parent, Path(next(iter(verl.mix_src.__path__)))
    files = [
        file
        for file in sorted(upstream.rglob("*.py"))
        if not str(file.relative_to(upstream)).startswith(NOT_STARTED) and not file.is_relative_to(own)
    ]
    tree = yaml.safe_load((upstream / ALL_KEYS).read_text(encoding="utf-8"))
    files += [file for file in sorted(own.rglob("*.py")) if file.parent.name != "preflight"]
    return CodeRead(files, _nodes_of(tree))


def _nodes_of(tree: Any) -> Iterator[str]:
    for name, below in tree.items() if isinstance(tree, dict) else ():
        if isinstance(below, dict):
            yield name
            yield from _nodes_of(below)


def _chains(node: ast.AST) -> Iterator[Chain]:
    """Every chain of names that ``node`` takes a value through."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        if node.name in REPLACED or any(_name(each) in REPLACED_KINDS for each in node.decorator_list):
            return
    if isinstance(node, ast.Assert) or (isinstance(node, ast.If) and all(isinstance(each, ast.Raise) for each in node.body)):
        yield from (chain for each in getattr(node, "orelse", ()) for chain in _chains(each))  # a check of a value is no use of it
        return
    if isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, ast.Load):
        yield from [_chain(node)] if _last(node) else []
    if isinstance(node, ast.Call):
        yield from _named_by_text(node)
        if _name(node) in IGNORES_ARGUMENTS:
            return
        function = node.func.value if isinstance(node.func, ast.Attribute) else node.func  # what is called is no setting
        yield from (chain for each in (function, *node.args, *node.keywords) for chain in _chains(each))
        return
    for child in ast.iter_child_nodes(node):
        yield from _chains(child)


def _named_by_text(call: ast.Call) -> Iterator[Chain]:
    """``config.get("lr")``, ``getattr(config, "lr")``, ``OmegaConf.select(config, "optim.lr")``."""
    base = _chain(call.func.value) if isinstance(call.func, ast.Attribute) and call.func.attr == "get" else ()
    for argument in call.args:
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str) and argument.value:
            yield (*reversed(argument.value.split(".")), *base)


def _chain(node: ast.AST) -> Chain:
    names = []
    while last := _last(node):
        names.append(last)
        node = node.value
    return tuple(names)


def _last(node: ast.AST) -> str | None:
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
        return node.slice.value
    return None


def _name(node: ast.AST) -> str:
    function = node.func if isinstance(node, ast.Call) else node
    return getattr(function, "id", getattr(function, "attr", ""))
