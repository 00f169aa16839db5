"""Command lines: a dataclass is one (its fields are the options), a mistake is one line, and exit codes have meanings.

It needs the standard library alone, so that a script that runs outside the project's environment can still say so; a parser library
would not do: ``transformers.HfArgumentParser`` takes 1.4 s to import where a whole ``--help`` takes 0.6 s, and neither ``typer`` nor
``pydantic-settings`` reads ``--names A B``.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import errno
import itertools
import logging
import math
import os
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TypeVar

from luffy.errors import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
UNWRITABLE = (errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG)
SWITCH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}

Command = TypeVar("Command", bound="DataclassInstance")


def positive(text: str) -> int:
    """Read a whole number above 0, as the type of an option."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def positive_number(text: str) -> float:
    """Read a finite number above 0, as the type of an option."""
    return _number(text, lambda number: 0 < number < math.inf, "a number above 0")


def number_from_0(text: str) -> float:
    """Read a finite number of at least 0, as the type of an option."""
    return _number(text, lambda number: 0 <= number < math.inf, "a number of at least 0")


def _number(text: str, is_right: Callable[[float], bool], wanted: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not is_right(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    return number


def boolean(text: str) -> bool:
    """Read ``True`` or ``False``, as the released scripts take them (``--remove_system True``)."""
    if text.lower() not in SWITCH:
        raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")
    return SWITCH[text.lower()]


def share(text: str) -> float:
    """A number in (0, 1]; raises :class:`argparse.ArgumentTypeError`."""
    return _number(text, lambda number: 0 < number <= 1, "in (0, 1]")


Positive = Annotated[int, positive]  # Annotated[TYPE, READ]: READ makes a value of a word, and refuses others
PositiveNumber = Annotated[float, positive_number]
NumberFrom0 = Annotated[float, number_from_0]
Share = Annotated[float, share]


def option(
    default: Any = dataclasses.MISSING,
    help: str = "",
    *,
    aliases: Sequence[str] = (),
    **settings: Any,
) -> Any:
    """A field of a dataclass that is a command line.

    Args:
        default: of the field; without one the option has to be given.
        help: what ``--help`` says; the default follows by itself.
        aliases: further spellings (``--force_generate`` for ``--overwrite``).
        settings: further arguments of ``argparse.add_argument``, such as ``metavar`` or ``nargs``; ``positional=True`` makes it no option.
    """
    return dataclasses.field(default=default, metadata={"help": help, "aliases": aliases, **settings})


def parse(
    command: type[Command],
    words: Sequence[str] | None = None,
    *,
    description: str | None = None,
    examples: str | None = None,
    prog: str | None = None,
    dashes: bool = False,
    defaults: Mapping[str, Any] = types.MappingProxyType({}),
) -> Command:
    """Read a command line.

    Args:
        command: a dataclass whose fields are made by :func:`option`. A field's type is how its words are read: ``str``, ``int``, ``float``,
            ``Path``, ``bool`` (True where it stands alone), ``Literal`` (choices), ``tuple[TYPE, ...]`` (several words), ``TYPE | None``,
            ``Annotated[TYPE, READ]``, or another such dataclass, whose fields are a group of options.
        words: the words; None takes the process's.
        description: what the command does.
        examples: shown at the end of ``--help``.
        prog: name of the command; None takes the script's.
        dashes: write options with dashes in ``--help``; both spellings are always read.
        defaults: by field, instead of the dataclass's own.

    Returns:
        An instance of the dataclass.
    """
    parser = Parser(prog=prog, description=description, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter)
    _add_options(parser, command, dashes, defaults)
    return _build(command, vars(parser.parse_args(words)))


class Parser(argparse.ArgumentParser):
    """Takes an option with dashes and with underscores alike (``--max-tokens``, ``--max_tokens``), and ends a mistake in one line."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = [self._as_defined(each) for each in (sys.argv[1:] if args is None else args)]
        for place, (word, after) in enumerate(itertools.pairwise(list(words) if self._get_positional_actions() else ())):
            action = self._option_string_actions.get(word)
            if action is not None and action.type is boolean and after.lower() not in SWITCH:
                words[place] += "=True"  # the next word is a positional argument
        known, unknown = super().parse_known_args(words, namespace)
        if wrong := next((each for each in unknown if each.startswith("--")), None):
            near = difflib.get_close_matches(wrong.partition("=")[0], self._option_string_actions, n=1)
            self.error(f"unknown option {wrong}" + (f"; did you mean {near[0]}?" if near else ""))
        return known, unknown

    def _get_option_tuples(self, option_string: str) -> list[Any]:
        """What an abbreviation may stand for; two spellings of one option are no ambiguity (as argparse has it from Python 3.12 on)."""
        found: list[Any] = super()._get_option_tuples(option_string)
        return found[:1] if len({id(action) for action, *_ in found}) == 1 else found

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_BAD_INPUT, f"error: {message} ({self.prog} --help lists the options)\n")

    def _as_defined(self, argument: str) -> str:
        name, equals, value = argument.partition("=")
        spelt = {option.replace("_", "-"): option for option in self._option_string_actions}
        return spelt.get(name.replace("_", "-"), name) + equals + value if name.startswith("--") else argument


def _add_options(parser: argparse._ActionsContainer, command: type[DataclassInstance], dashes: bool, defaults: Mapping[str, Any]) -> None:
    hints = typing.get_type_hints(command, include_extras=True)
    for field in dataclasses.fields(command):
        if dataclasses.is_dataclass(hints[field.name]):
            _add_options(parser.add_argument_group(field.name), hints[field.name], dashes, defaults)
        elif field.metadata:
            _add_option(parser, field, {**_reading(hints[field.name]), **field.metadata}, dashes, defaults.get(field.name, field.default))


def _add_option(parser: argparse._ActionsContainer, field: dataclasses.Field, settings: dict[str, Any], dashes: bool, default: Any) -> None:
    aliases, positional = (settings.pop(name, ()) for name in ("aliases", "positional"))
    name = "--" + (field.name.replace("_", "-") if dashes else field.name)
    required = default is dataclasses.MISSING
    if not required and default is not False and default not in (None, ()):
        settings["help"] += f" (default: {' '.join(map(str, default)) if isinstance(default, tuple) else default})"
    settings["help"] = settings["help"].strip().replace("%", "%%")
    if positional:
        parser.add_argument(field.name, **settings, **({} if required else {"default": default}))
    else:
        parser.add_argument(name, *aliases, dest=field.name, **settings, **({"required": True} if required else {"default": default}))


def _reading(hint: Any) -> dict[str, Any]:
    """How argparse reads a value of a type."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):  # TYPE | None
        return _reading(parts[0])
    if origin is Annotated:
        return {"type": parts[1]}
    if origin is Literal:
        return {"choices": parts}
    if origin is tuple:
        return {**_reading(parts[0]), "nargs": "+"}
    if hint is bool:
        return {"type": boolean, "nargs": "?", "const": True, "metavar": "True|False"}
    return {"type": hint}


def _build(command: type[Command], values: Mapping[str, Any]) -> Command:
    given: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(command).items():
        if dataclasses.is_dataclass(hint):
            given[name] = _build(typing.cast(Any, hint), values)
        elif name in values:
            given[name] = tuple(values[name]) if isinstance(values[name], list) else values[name]
    return command(**given)


def run(main: Callable[[], int | None]) -> None:
    """Run a command's ``main`` and exit with its code.

    An :class:`~luffy.errors.InputError` and a place that cannot be written become one ``error: ...`` line on stderr and
    exit code 2; Ctrl-C becomes exit code 130. Every other exception keeps its traceback: it is a defect of the program.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # the hub's client: a line for each of its requests otherwise
    try:
        sys.exit(main() or 0)
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(EXIT_BAD_INPUT)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        place = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"error: {place}{error.strerror}; give another place, or make room there\n")
        sys.exit(EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(EXIT_INTERRUPTED)


def explain_missing_packages() -> None:
    """Let a package that cannot be imported become one ``error: ...`` line and exit code 2: the wrong Python runs."""
    sys.excepthook = _explain_missing_package


def _explain_missing_package(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not isinstance(error, ModuleNotFoundError) or str(error.name).partition(".")[0] == "luffy":
        sys.__excepthook__(kind, error, trace)
        return
    root = Path(__file__).resolve().parent.parent
    if Path(sys.prefix).resolve() == root / ".venv":
        advice = f"run bash {_shown(root / 'exp_scripts' / 'setup.sh')} again"
    else:
        python = _shown(root / ".venv" / "bin" / "python")
        advice = f"run {python} {sys.argv[0]} (bash {_shown(root / 'exp_scripts' / 'setup.sh')} makes that environment)"
    sys.stderr.write(f"error: this Python ({sys.executable}) has no package '{error.name}'; {advice}\n")
    sys.exit(EXIT_BAD_INPUT)


def _shown(path: Path) -> str:
    return os.path.relpath(path)
