"""veRL's file logger, which starts a metrics file anew at each start, made to go on with the run's."""

from __future__ import annotations

import os

from verl.utils import tracking


class AppendingFileLogger(tracking.FileLogger):
    """Appends to the file, which ``RunFiles.prepare`` has ended where the run goes on."""

    def __init__(self, project_name: str, experiment_name: str) -> None:
        self.filepath = os.environ["VERL_FILE_LOGGER_PATH"]
        self.fp = open(self.filepath, "ab", buffering=0)  # not super().__init__, which empties the file


def go_on_with_metrics() -> None:
    """Let veRL's ``file`` logger of this process append."""
    tracking.FileLogger = AppendingFileLogger
