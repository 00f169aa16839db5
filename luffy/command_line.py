"""The boundary between the library and a person at a shell: exit codes and one-line errors.

It needs the standard library alone, so that a script that runs outside the project's environment can still say so.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from luffy.errors import InputError

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


def run(main: Callable[[], int | None]) -> None:
    """Run a command's ``main`` and exit with its code.

    An :class:`~luffy.errors.InputError` becomes one ``error: ...`` line on stderr and exit code 2; Ctrl-C becomes
    exit code 130. Every other exception keeps its traceback: it is a defect of the program.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # the hub's client: a line for each of its requests otherwise
    try:
        sys.exit(main() or 0)
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
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
