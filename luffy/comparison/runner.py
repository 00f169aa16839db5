"""Runs cells one after the other: finished ones are left alone, a failing one does not stop the others.

A model is measured while the next RL cell starts: that imports on one core for a minute. SFT is one busy process from the
first second on, and would take twice its time.
"""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from luffy.comparison.cells import Cell
from luffy.comparison.commands import measuring_command, training_command
from luffy.comparison.layout import Layout
from luffy.comparison.prepare import prepare
from luffy.data.atomic import replacing
from luffy.errors import InputError
from luffy.progress import Bar

LAUNCHER = (sys.executable, "-m")

logger = logging.getLogger(__name__)


class Runner:
    """Runs cells.

    Args:
        layout: where their files are.
        launcher: what starts a module: its name and arguments are appended.
        prepare_cell: builds what the cells of a regime and seed need; called with one of them.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        launcher: Sequence[str] = LAUNCHER,
        prepare_cell: Callable[[Cell, Layout], None] = prepare,
    ) -> None:
        self._layout = layout
        self._launcher = launcher
        self._prepare = prepare_cell

    def run(self, cells: Sequence[Cell]) -> dict[str, str]:
        """Run the cells that are not finished, each with its output in ``console.log`` of its folder.

        Returns:
            Names of the failed cells, each with a line that says what failed.
        """
        todo = [cell for cell in cells if not self._layout.is_finished(cell)]
        for cell in todo:
            self._check_folder(cell)
        for cell in {(cell.regime.name, cell.seed): cell for cell in todo}.values():
            self._prepare(cell, self._layout)
        outcomes: dict[str, Future[str]] = {}
        with Bar(total=len(todo), desc="cells", unit="cell") as bar, ThreadPoolExecutor(max_workers=1) as beside:
            for cell in todo:
                if cell.method.experiment is None:
                    wait(outcomes.values())
                outcomes[cell.name] = beside.submit(self._conclude, cell, self._train(cell), bar)
        return {name: failure for name, outcome in outcomes.items() if (failure := outcome.result())}

    def _train(self, cell: Cell) -> str:
        """Train, if that is still to do; return what failed, or an empty string."""
        layout = self._layout
        if layout.is_trained(cell):
            return ""
        if cell.start and not layout.model(cell.start, cell.start_step).is_dir():
            return f"it starts from {cell.start.name}, which has no model of step {cell.start_step}"
        self._begin_anew(cell)
        code = self._start(training_command(cell, layout), cell)
        done = code == 0 and layout.is_trained(cell)
        return "" if done else f"training ended with exit code {code}; see {layout.console(cell)}"

    def _conclude(self, cell: Cell, failure: str, bar: Bar) -> str:
        """Measure where training has not failed, and say how the cell has ended; return what failed."""
        if not failure:
            code = self._start(measuring_command(cell, self._layout), cell)
            if code or not self._layout.measurement(cell).is_file():
                failure = f"measuring ended with exit code {code}; see {self._layout.console(cell)}"
        Bar.write(f"{cell.name}: {failure or 'finished'}", file=sys.stderr)
        bar.update()
        return failure

    def _check_folder(self, cell: Cell) -> None:
        folder, file = self._layout.cell(cell), self._layout.parameters(cell)
        if folder.exists() and any(folder.iterdir()) and not file.is_file():
            raise InputError(f"{folder} holds files that no comparison made; move it away or give another --output_dir")

    def _begin_anew(self, cell: Cell) -> None:
        shutil.rmtree(self._layout.cell(cell), ignore_errors=True)
        with replacing(self._layout.parameters(cell)) as temporary:
            temporary.write_text(json.dumps(cell.parameters(), indent=2) + "\n", encoding="utf-8")

    def _start(self, command: Sequence[str], cell: Cell) -> int:
        with (
            self._layout.console(cell).open("ab") as console,
            subprocess.Popen([*self._launcher, *command], stdout=console, stderr=subprocess.STDOUT) as process,
        ):
            try:
                return process.wait()
            except KeyboardInterrupt:
                process.terminate()  # it ends all that it has started, which takes a few seconds
                process.wait()
                raise
