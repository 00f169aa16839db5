"""A progress bar for terminals that becomes a line at intervals where output goes to a file or a pipe."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from tqdm import tqdm

LINE_EVERY_S = 30.0


class Bar(tqdm):
    """tqdm, whose every display is a line of its own where ``file`` (stderr) is no terminal.

    Takes tqdm's arguments; there, displays are ``LINE_EVERY_S`` apart.
    """

    def __init__(self, *args: Any, file: TextIO | None = None, **kwargs: Any) -> None:
        file = file or sys.stderr
        if file.isatty():
            super().__init__(*args, file=file, **kwargs)
        else:
            super().__init__(*args, file=_Lines(file), **{"mininterval": LINE_EVERY_S, "miniters": 1} | kwargs)


class _Lines:
    """A text file of lines, for a bar that redraws itself with carriage returns."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.encoding = getattr(file, "encoding", None) or "utf-8"

    def write(self, text: str) -> None:
        """Write ``text`` as one line, if there is anything in it."""
        if text.strip():
            self._file.write(text.strip() + "\n")

    def flush(self) -> None:
        """Hand it to the system."""
        self._file.flush()

    def isatty(self) -> bool:
        """Never a terminal."""
        return False
