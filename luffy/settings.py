"""A setting is declared once: its name, type, default, bounds and meaning are one line of a frozen dataclass.

    @settings("luffy.entropy")
    class EntropyConfig:
        target: Positive = 1.0
        \"\"\"Entropy to hold, nats a token; read by learned and rule. Paper: not used.\"\"\"

pydantic checks types and bounds: ``True`` is no integer, ``"1"`` no number, an integer is a valid float, infinity and NaN are not.
Every mistake is one line with the full key.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, dataclass_transform, get_args, get_origin, get_type_hints

import pydantic
from pydantic import ConfigDict, Field, ValidationError

from luffy.errors import InputError

Config = TypeVar("Config")

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]

_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, arbitrary_types_allowed=True)
_TYPES = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}


@dataclass(frozen=True)
class Follows:
    """Annotation of a setting that in a training config has the value of another key."""

    key: str


@dataclass_transform(kw_only_default=True, frozen_default=True)
def settings(where: str) -> Callable[[type[Config]], type[Config]]:
    """Make a class a frozen, keyword-only dataclass whose values are checked.

    Args:
        where: full key of the section, for messages (``luffy.objective``).

    Raises:
        InputError: from the class, when it is called: a key that is unknown, a value of another type or out of bounds.
    """

    def decorate(cls: type[Config]) -> type[Config]:
        made: Any = pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=_STRICT)(cls)
        check = made.__init__

        @functools.wraps(check)
        def __init__(self: Any, **values: Any) -> None:
            try:
                check(self, **values)
            except ValidationError as error:
                raise InputError(_one_line(error, made, where)) from None

        made.__init__ = __init__
        made.where = where
        return made

    return decorate


def build(config_type: type[Config], values: Mapping[str, Any] | None, where: str) -> Config:
    """Make a section from a mapping that may only hold its keys.

    Args:
        config_type: a class made by :func:`settings`.
        values: keys to values; keys that it leaves out keep their default. None is an empty mapping.
        where: full key of the section, for messages.

    Raises:
        InputError: not a mapping, an unknown key (the message names the nearest known one), or a wrong value.
    """
    if values is None:
        return config_type()
    if not isinstance(values, Mapping):
        raise InputError(f"{where} is {values!r}; it must be a mapping of keys to values")
    reject_unknown(values, names(config_type), where)
    hints = get_type_hints(config_type, include_extras=True)
    read = {name: _read(value, hints[name], f"{where}.{name}") for name, value in values.items()}
    try:
        return config_type(**read)
    except InputError as error:  # a part that stands in several places, such as a schedule, says its own name
        own = getattr(config_type, "where", where)
        raise InputError(re.sub(rf"(?<![\w.]){re.escape(own)}(?=[. ])", where, str(error), count=1)) from None


def _read(value: Any, hint: Any, where: str) -> Any:
    """A value of a part that is written as a mapping (it has ``read``): what it is read as; any other value as it is."""
    kinds = [_parts(each)[0] for each in _choices(hint)]
    for kind in (each for each in kinds if hasattr(each, "read")):
        if not isinstance(value, kind) and (isinstance(value, Mapping) or kinds == [kind]):
            return kind.read(value, where)
    return value


def names(config_type: Any) -> list[str]:
    """Keys of a section."""
    return [field.name for field in dataclasses.fields(config_type)]


def describe(config_type: type, name: str) -> str:
    """What a key's value must be, such as "a number above 0, or null"."""
    hint = get_type_hints(config_type, include_extras=True)[name]
    bounds, choices = _parts(hint)[1], _choices(hint)
    said = []
    for choice in (each for each in choices if each is not type(None)):
        plain, inner = _parts(choice)
        word = "one of " + ", ".join(get_args(plain)) if get_origin(plain) is Literal else _TYPES.get(plain, f"a {plain.__name__.lower()}")
        said.append(word + _bounds_in_words(inner or bounds))
    return " or ".join(said) + (", or null" if type(None) in choices else "")


def takes(config_type: type, name: str, kind: type) -> bool:
    """Whether a key may hold a value of a type."""
    hint = get_type_hints(config_type, include_extras=True).get(name)
    return any(_parts(each)[0] is kind for each in _choices(hint))


def reject_unknown(keys: Iterable[str], known: Iterable[str], where: str) -> None:
    """Stop at the first key that is not known.

    Raises:
        InputError: with the full key and the nearest known one.
    """
    known = list(known)
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            hint = f"did you mean {where}.{near[0]}?" if near else f"known keys: {', '.join(known)}"
            raise InputError(f"unknown key {where}.{key}; {hint}")


def require(condition: bool, message: str) -> None:
    """Raise an InputError with the message unless the condition holds."""
    if not condition:
        raise InputError(message)


def meanings(config_type: type) -> dict[str, str]:
    """The docstring below each key, in one line."""
    fields = config_type.__pydantic_fields__  # type: ignore[attr-defined]
    return {name: " ".join((fields[name].description or "").split()) for name in names(config_type)}


def followed(config_type: type) -> dict[str, str]:
    """The other key whose value a key has in a training config, where there is one."""
    hints = get_type_hints(config_type, include_extras=True)
    found = {name: [each.key for each in getattr(hint, "__metadata__", ()) if isinstance(each, Follows)] for name, hint in hints.items()}
    return {name: keys[0] for name, keys in found.items() if keys}


def _one_line(error: ValidationError, config_type: type, where: str) -> str:
    first = error.errors()[0]
    if first["type"] == "value_error":  # raised by a check of ours, which names the key
        return str(first["ctx"]["error"])
    name = str(first["loc"][0])
    if first["type"] == "unexpected_keyword_argument":
        return _unknown(name, config_type, where)
    must = describe(config_type, name)
    if first["type"].startswith("missing"):
        return f"{where}.{name} is missing; it must be {must}"
    must = must.replace("a number", "a finite number") if first["type"] == "finite_number" else must
    return f"{where}.{name} is {first['input']!r}; it must be {must}"


def _unknown(name: str, config_type: type, where: str) -> str:
    try:
        reject_unknown([name], names(config_type), where)
    except InputError as error:
        return str(error)
    raise AssertionError(name)


def _choices(hint: Any) -> tuple[Any, ...]:
    """The types of a union, or the one type."""
    plain, _ = _parts(hint)
    return get_args(plain) if get_origin(plain) in (types.UnionType, Union) else (plain,)


def _parts(hint: Any) -> tuple[Any, dict[str, float]]:
    """A type without its annotations, and the bounds among them."""
    if get_origin(hint) is not Annotated:
        return hint, {}
    plain, *metadata = get_args(hint)
    flat = [inner for each in metadata for inner in getattr(each, "metadata", [each])]
    bounds = {key: getattr(each, key) for each in flat for key in ("gt", "ge", "lt", "le") if getattr(each, key, None) is not None}
    return plain, bounds


def _bounds_in_words(bounds: Mapping[str, float]) -> str:
    low = bounds.get("gt", bounds.get("ge"))
    if "le" in bounds:
        return f" in {'(' if 'gt' in bounds else '['}{low}, {bounds['le']}]"
    if low is None:
        return ""
    return f" above {low}" if "gt" in bounds else f" of at least {low}"
