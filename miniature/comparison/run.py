"""Runs cells: builds what they need, trains, measures."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pyarrow.parquet as pq

from luffy.errors import InputError
from luffy.files import replacing, write_json
from luffy.progress import Bar
from miniature.comparison.cells import Cell, Folders
from miniature.comparison.methods import STEPS
from miniature.dataset import HARDER_FILE, HELDOUT_FILE, TRAIN_FILE, tables
from miniature.example import MODEL_FOLDER, build

RL_MODULE, SFT_MODULE, MEASURE_MODULE = "verl.mix_src.main_mix_ppo", "verl.mix_src.main_sft", "miniature.comparison.measure"
ROWS = 8  # of a prompt's group, in the cpu profile; all rows of a step are one micro-batch


def training_command(cell: Cell, layout: Folders) -> list[str]:
    """Module and arguments that train a cell, for ``python -m``."""
    data, steps = layout.data(cell), cell.steps - cell.start_step
    shared = [
        "profile=cpu",
        f"luffy.run.seed={cell.seed}",
        f"trainer.total_training_steps={steps}",
        f"trainer.default_local_dir={layout.cell(cell)}",
        f"data.train_files={data / TRAIN_FILE}",
        f"data.train_batch_size={cell.regime.prompts}",
        f"data.val_files={data / CURVE_FILE}",
        f"data.max_response_length={cell.regime.response_tokens}",
        "luffy.run.validate_greedy=false",
    ]
    if cell.method.experiment is None:
        own = [
            f"model.path={_start_model(cell, layout)}",
            f"data.micro_batch_size_per_gpu={cell.regime.prompts}",
            f"trainer.save_freq={min(cell.check_every, cell.steps // 2)}",
        ]
        return [SFT_MODULE, *shared, *own]
    own = [
        f"experiment={cell.method.experiment}",
        f"actor_rollout_ref.actor.ppo_mini_batch_size={cell.regime.prompts}",
        f"actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu={cell.regime.prompts * ROWS}",
        f"actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu={cell.regime.prompts * ROWS}",
        f"actor_rollout_ref.model.path={_start_model(cell, layout)}",
        f"trainer.test_freq={cell.check_every}",
        "trainer.val_before_train=false",
        f"trainer.save_freq={steps}",
    ]
    guided = cell.regime.overrides if cell.method.reads_traces else ()
    taught = () if cell.teacher is None else (f"luffy.teacher.path={layout.model(cell.teacher, cell.teacher.steps)}",)
    varied = (each.replace(STEPS, str(steps)) for each in cell.method.overrides)
    return [RL_MODULE, *shared, *own, *guided, *taught, *cell.method.scaled(cell.steps), *varied]


def measuring_command(cell: Cell, layout: Folders) -> list[str]:
    """Module and arguments that measure a trained cell, for ``python -m``."""
    data = layout.data(cell)
    return [
        MEASURE_MODULE,
        f"--model_path={layout.model(cell, cell.steps - cell.start_step)}",
        f"--heldout={data / HELDOUT_FILE}",
        f"--harder={data / HARDER_FILE}",
        f"--seed={cell.seed}",
        f"--output={layout.measurement(cell)}",
    ]


def _start_model(cell: Cell, layout: Folders) -> str:
    start = cell.start
    return str(layout.base(cell.regime) / MODEL_FOLDER if start is None else layout.model(start, cell.start_step))


SEED = 0  # of base and held-out problems: a cell's own seed is that of training, its problems and their traces
CURVE_FILE = "heldout_curve.parquet"  # answered during training
CURVE_PROBLEMS = 64


def build_cell_inputs(cell: Cell, layout: Folders) -> None:
    """Build what the cell needs and is not there yet: the base takes a minute or two, the data a second."""
    build(layout.base(cell.regime), SEED, base=cell.regime.base)
    for name, table in _files(cell).items():
        with replacing(layout.data(cell) / name) as temporary:
            pq.write_table(table, temporary)


def _files(cell: Cell) -> dict:
    found = tables(cell.regime.data, SEED, train_seed=cell.seed)
    return found | {CURVE_FILE: found[HELDOUT_FILE].slice(0, CURVE_PROBLEMS)}


LAUNCHER = (sys.executable, "-m")
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # two of so small a model wait for each other where a training runs beside: 19 answers/s, one: 149

logger = logging.getLogger(__name__)


class Runner:
    """Runs cells.

    Args:
        layout: where their files are.
        launcher: what starts a module: its name and arguments are appended.
        build_inputs: builds what the cells of a regime and seed need; called with one of them.
    """

    def __init__(
        self,
        layout: Folders,
        *,
        launcher: Sequence[str] = LAUNCHER,
        build_inputs: Callable[[Cell, Folders], None] = build_cell_inputs,
    ) -> None:
        self._layout = layout
        self._launcher = launcher
        self._build_inputs = build_inputs

    def run(self, cells: Sequence[Cell]) -> dict[str, str]:
        """Run the cells that are not finished, each with its output in ``console.log`` of its folder.

        Returns:
            Names of the failed cells, each with a line that says what failed.
        """
        todo = [cell for cell in cells if not self._layout.is_finished(cell)]
        for cell in todo:
            self._check_folder(cell)
        for cell in {(cell.regime.name, cell.seed): cell for cell in todo}.values():
            self._build_inputs(cell, self._layout)
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
        if cell.teacher and not layout.model(cell.teacher, cell.teacher.steps).is_dir():
            return f"its teacher is {cell.teacher.name}, which is not trained"
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
        write_json(self._layout.parameters(cell), cell.parameters())

    def _start(self, command: Sequence[str], cell: Cell) -> int:
        with (
            self._layout.console(cell).open("ab") as console,
            subprocess.Popen([*self._launcher, *command], stdout=console, stderr=subprocess.STDOUT, env=ONE_THREAD | os.environ) as process,
        ):
            try:
                return process.wait()
            except KeyboardInterrupt:
                process.terminate()  # it ends all that it has started, which takes a few seconds
                process.wait()
                raise
