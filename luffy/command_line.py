"""The boundary between the library and a person at a shell: exit codes and one-line errors.

It needs the standard library alone, so that a script that runs outside the project's environment can still say so.
"""

from __future__ import annotations

import argparse
import difflib
import errno
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from luffy.errors import InputError

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
UNWRITABLE = (errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG)


class Parser(argparse.ArgumentParser):
    """Takes an option with dashes and with underscores alike (``--max-tokens``, ``--max_tokens``), and ends a mistake in one line."""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        arguments = [self._as_defined(each) for each in (sys.argv[1:] if args is None else args)]
        known, unknown = super().parse_known_args(arguments, namespace)
        if wrong := next((each for each in unknown if each.startswith("--")), None):
            near = difflib.get_close_matches(wrong.partition("=")[0], self._option_string_actions, n=1)
            self.error(f"unknown option {wrong}" + (f"; did you mean {near[0]}?" if near else ""))
        return known, unknown

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_BAD_INPUT, f"error: {message} ({self.prog} --help lists the options)\n")

    def _as_defined(self, argument: str) -> str:
        name, equals, value = argument.partition("=")
        spelt = {option.replace("_", "-"): option for option in self._option_string_actions}
        return spelt.get(name.replace("_", "-"), name) + equals + value if name.startswith("--") else argument


def positive(text: str) -> int:
    """Read a whole number above 0, as the type of an option."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


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
