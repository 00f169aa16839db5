"""A program in a fork of the tests' process, whose imports are done: what it says, and its exit code."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

Done = subprocess.CompletedProcess[str]


def run_module(module: str, *arguments: object, environment: Mapping[str, str] | None = None) -> Done:
    """``python -m MODULE arguments``; seconds less than a process that imports anew."""
    import_module(module)

    def program() -> None:
        del sys.modules[module]
        runpy.run_module(module, run_name="__main__", alter_sys=True)

    return _in_fork(program, [module, *map(str, arguments)], environment or {}, Path.cwd())


def run_code(code: str, *arguments: object, environment: Mapping[str, str] | None = None, folder: Path) -> Done:
    """``python -c CODE arguments`` in a folder."""
    return _in_fork(lambda: exec(code, {"__name__": "__main__"}), ["-c", *map(str, arguments)], environment or {}, folder)


def become(words: list[str], environment: Mapping[str, str], output: int, errors: int) -> None:
    """Give this process, a fork of the tests', the arguments, variables and files (handles) of a command."""
    os.dup2(output, 1)
    os.dup2(errors, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    signal.set_wakeup_fd(-1)
    os.environ.update(environment)
    sys.argv = words


def _in_fork(program: Callable[[], None], words: list[str], environment: Mapping[str, str], folder: Path) -> Done:
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        if (pid := os.fork()) == 0:
            code = 1
            try:
                become(words, environment, output.fileno(), errors.fileno())
                os.chdir(folder)
                program()
                code = 0
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        said = [(stream.seek(0), stream.read())[1] for stream in (output, errors)]
    return subprocess.CompletedProcess(words, os.waitstatus_to_exitcode(status), *said)
