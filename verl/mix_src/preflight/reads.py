"""Which keys of veRL's config a training reads, found in the source that it runs.

A key counts as read where that source takes its name from something (``x.key``, ``x["key"]``, ``x.get("key")``) and does so
for every node above it. What the extension replaces or never starts does not count. So a key that steers a loss of veRL's own
is unread here, whatever it is called and whichever version of veRL adds it. The search is by name: it may take a key for read
that is not, never the other way round.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

import verl
import verl.mix_src

ALL_KEYS = "trainer/config/_generated_ppo_trainer.yaml"  # veRL's whole config in one file

NOT_STARTED = (
    "experimental/fully_async_policy", "experimental/one_step_off_policy", "experimental/separation",
    "experimental/teacher_loop", "trainer/distillation", "trainer/main_ppo_v0.py", "trainer/sft_trainer", "trainer/main_eval",
    "trainer/main_generation", "model_merger", "models/mcore", "third_party", "utils/megatron",
    "workers/engine/automodel", "workers/engine/megatron", "workers/engine/mindspeed", "workers/engine/torchtitan",
    "workers/engine/veomni", "workers/engine_workers_tinker.py", "workers/rollout/hf_rollout.py", "workers/rollout/naive",
    "workers/rollout/sglang_rollout", "workers/rollout/trtllm_rollout", "workers/config/critic.py",
    "workers/config/distillation.py", "workers/config/megatron_peft.py",
)  # fmt: skip
"""Parts of veRL that no LUFFY training starts."""

REPLACED = frozenset(
    ("ppo_loss", "value_loss", "agg_loss", "compute_advantage", "migrate_legacy_reward_impl", "RayPPOTrainer", "_update_critic")
)
"""Functions and classes of veRL in whose place LUFFY's own stand, or that the V1 trainer does not call."""

REPLACED_KINDS = frozenset(("register_policy_loss", "register_adv_est"))
"""Decorators of veRL's losses and estimators: ``luffy`` is the only one in use."""

IGNORES_ARGUMENTS = frozenset(("compute_advantage_for_multi_trajectories", "agg_loss"))
"""Calls that hand keys on to what is replaced, or to a metric that the extension defines itself."""

HANDED_ON = (
    "ray_kwargs.ray_init", "transfer_queue", "actor_rollout_ref.rollout.engine_kwargs", "actor_rollout_ref.model.override_config",
    "actor_rollout_ref.actor.optim.override_optimizer_config", "actor_rollout_ref.rollout.checkpoint_engine.engine_kwargs",
    "actor_rollout_ref.model.tiled_mlp", "data.apply_chat_template_kwargs", "data.mm_processor_kwargs",
    "data.dataset_kwargs", "global_profiler.global_tool_config", "reward.reward_kwargs",
    "reward.custom_reward_function.reward_kwargs", "trainer.v1.sampler.sampler_kwargs",
    "actor_rollout_ref.actor.profiler.tool_config", "actor_rollout_ref.ref.profiler.tool_config",
    "actor_rollout_ref.rollout.profiler.tool_config",
)  # fmt: skip
"""Nodes that go as a whole to another library, or to a check of their own."""

Chain = tuple[str, ...]  # names from the last one back: ("lr", "optim", "config") of config.optim.lr


def is_read(key: str) -> bool:
    """Whether a training reads veRL's key, as ``actor_rollout_ref.actor.grad_clip``."""
    if any(key == node or key.startswith(f"{node}.") for node in HANDED_ON):
        return True
    path = tuple(key.split("."))
    return all(_reads(path[: length + 1]) for length in range(len(path)))


@cache
def _reads(path: Chain) -> bool:
    return _source().reads(path)


class Source:
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
def _source() -> Source:
    upstream, own = Path(verl.__file__).parent, Path(next(iter(verl.mix_src.__path__)))
    files = [
        file
        for file in sorted(upstream.rglob("*.py"))
        if not str(file.relative_to(upstream)).startswith(NOT_STARTED) and not file.is_relative_to(own)
    ]
    tree = yaml.safe_load((upstream / ALL_KEYS).read_text(encoding="utf-8"))
    files += [file for file in sorted(own.rglob("*.py")) if file.parent.name != "preflight"]
    return Source(files, _nodes_of(tree))


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
