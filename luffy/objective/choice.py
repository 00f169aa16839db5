"""A choice among named parts of one kind: a class each, whose fields are settings.

    shaping: {name: p_div_p, gamma: 0.1}

A kind of part is a subclass of :class:`Choice` and a dictionary of its classes by name; :func:`register` adds one. Parameters of one
name have one default in all classes of a kind, so that the node of a config can show them all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from luffy.settings import build, names, reject_unknown, require, settings


class Choice(ABC):
    """One of the named parts of its kind, with its parameters."""

    name: ClassVar[str]
    reads_old: ClassVar[bool] = False  # whether it reads log π_old

    @classmethod
    @abstractmethod
    def kinds(cls) -> dict[str, Any]:
        """All parts of the kind by name."""

    def node(self) -> dict[str, Any]:
        """As the node of a config: the name, and every parameter of the kind (null where this part has none of that name)."""
        return {"name": self.name} | {key: getattr(self, key, None) for key in parameters_of(self.kinds())}


def parameters_of(kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of all parts of a kind and their defaults."""
    return {key: getattr(kind(), key) for kind in kinds.values() for key in names(kind)}


def readers_of(kinds: Mapping[str, Any], parameter: str) -> list[str]:
    """Names of the parts that have a parameter."""
    return [name for name, kind in kinds.items() if parameter in names(kind)]


def register(kinds: dict[str, Any], name: str, where: str) -> Callable[[type], type]:
    """A decorator that adds a part to its kind.

    Args:
        kinds: the kind's dictionary.
        name: the part's name in a config.
        where: full key of a node that may hold it, for messages.
    """

    def decorate(cls: type) -> type:
        known = parameters_of(kinds)
        made: Any = settings(where)(cls)
        for key in names(made):
            assert getattr(made(), key) == known.get(key, getattr(made(), key)), f"{key} has another default in another part"
        made.name = name
        kinds[name] = made
        return made

    return decorate


def read_choice(kinds: Mapping[str, Any], word: str, node: Any, where: str) -> Any:
    """The part that a config node asks for.

    Args:
        kinds: the kind's dictionary.
        word: what a part of this kind is called, for messages.
        node: a mapping of ``name`` and of its parameters; a parameter that is null has its default.
        where: full key of the node, for messages.

    Raises:
        InputError: an unknown name, or a parameter that the part does not have.
    """
    require(not isinstance(node, str), f"{where} is {node!r}; a {word} has a name and parameters: set {where}.name={node}")
    require(isinstance(node, Mapping), f"{where} is {node!r}; it must be a mapping of name and parameters")
    name, given = node.get("name"), {key: value for key, value in node.items() if key != "name" and value is not None}
    require(name in kinds, f"{where}.name is {name!r}; it must be one of {', '.join(kinds)}")
    known = parameters_of(kinds)
    reject_unknown(given, known, where)
    own = names(kinds[name])
    for key, value in given.items():
        others = " or ".join(readers_of(kinds, key))
        require(
            key in own or value == known[key],  # a default that the node of another part has left
            f"{where}.{key} is {value}, but {word} {name} does not read it; set {where}.name to {others}, or {key} to null",
        )
    return build(kinds[name], {key: value for key, value in given.items() if key in own}, where)
