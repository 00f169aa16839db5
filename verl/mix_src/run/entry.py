"""How a command trains: compose, check, show (dry run), go on or find nothing left, lock the folder, train under the watch, finish.

Errors that a person can mend are one line and exit code 2; a run whose part failed ends with 1, after Ctrl-C with 130.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from importlib import resources
from typing import ClassVar, TextIO

import hydra
from omegaconf import DictConfig, OmegaConf

from luffy.command_line import EXIT_BAD_INPUT, EXIT_INTERRUPTED
from luffy.errors import InputError
from verl.mix_src.run import identity, loggers, preflight, report
from verl.mix_src.run.console import output_to
from verl.mix_src.run.data import compare_prompts
from verl.mix_src.run.failure import what_failed
from verl.mix_src.run.folder import RunFiles, folder_of_its_own
from verl.mix_src.run.preflight.inputs import row_lengths
from verl.mix_src.run.preflight.machine import check_extension
from verl.mix_src.run.preflight.overrides import check_command_line
from verl.mix_src.run.processes import Stalls, Watch, supervised, within

EXIT_FAILED = 1
CLOSED_WITHIN_S, CLOSED_AFTER_FAILURE_S = 60, 15  # closing asks Ray's head, which may not answer; all processes are ended afterwards


class RunFailed(Exception):
    """A part of the run failed.

    Args:
        part: what a person calls it; None where the error tells.
    """

    def __init__(self, part: str | None = None) -> None:
        super().__init__(part)
        self.part = part


class Run:
    """A run of one kind; a subclass says what it checks and does.

    Attributes:
        config_module, config_name: its Hydra config, beside which is ``help.txt``.
        config_checks, machine_checks: see :mod:`verl.mix_src.run.preflight`.
        starts: how often the start is tried, where a part is lost before :meth:`is_up`.
    """

    config_module: ClassVar[str]
    config_name: ClassVar[str]
    config_checks: ClassVar[tuple[preflight.Check, ...]]
    machine_checks: ClassVar[tuple[preflight.Check, ...]]
    starts: ClassVar[int] = 1

    def __init__(self, config: DictConfig) -> None:
        self.config, self.files = config, RunFiles.of(config)

    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return identity.total_steps(self.config)

    def may_be_done(self) -> bool:
        """Whether a checkpoint of the last step means that nothing is left to do; asked before anything is checked."""
        return True

    def warm_up(self) -> None:
        """Begin what takes long and goes on beside the checks of the machine; it ends with this process."""

    def join(self) -> None:
        """Find the machines beside this one, once they are checked."""

    def prepare(self) -> None:
        """Make config and folder ready, after :func:`identity.begin`."""

    @property
    def elsewhere(self) -> Callable[[], Mapping[str, str]]:
        """See :func:`supervised`."""
        return dict

    def stalls(self, console: TextIO) -> Stalls | None:
        """What measures the phases of a start; see :func:`supervised`."""
        return None

    def train(self, console: TextIO, watch: Watch) -> None:
        """Train from start to end.

        Raises:
            RunFailed: where a part failed.
        """
        raise NotImplementedError

    def is_up(self) -> bool:
        """Whether the parts have started."""
        return True

    def close(self) -> None:
        """What is done at the end of each try, however it ends."""


def command(kind: type[Run]) -> None:
    """Entry point: help on one screen, and a check of the overrides by name before Hydra sees them."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        sys.stdout.write(resources.files(kind.config_module).joinpath("help.txt").read_text(encoding="utf-8"))
        return

    @hydra.main(config_path=f"pkg://{kind.config_module}", config_name=kind.config_name, version_base=None)
    def composed(config: DictConfig) -> None:
        _exit_with(lambda: _check_and_train(kind(config)))

    _exit_with(lambda: check_command_line(sys.argv[1:], module=kind.config_module, name=kind.config_name))
    composed()


def _exit_with(work: Callable[[], int | None]) -> None:
    try:
        code = work()
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        code = EXIT_BAD_INPUT
    if code is not None:
        sys.exit(code)


def _check_and_train(run: Run) -> int | None:
    config, files = run.config, run.files
    check_extension()
    if not config.dry_run and (done := _nothing_left(run)):
        report.finish_again(config, files, done)
        return 0
    preflight.refuse(run.config_checks, config)
    if config.dry_run:
        report.show_plan(config, list(preflight.problems(run.machine_checks, config)))
        return None
    identity.check_folder(config)
    run.warm_up()
    preflight.refuse(run.machine_checks, config)
    with folder_of_its_own(files.folder):
        run.join()
        return _train(run)


def _nothing_left(run: Run) -> str | None:
    """A line where the folder has the whole run already; asked first, since the checks import what trains, for seconds."""
    if not run.may_be_done() or not identity.goes_on(run.config):
        return None
    return identity.nothing_left(run.config, run.steps())


def _train(run: Run) -> int:
    """Train, under the watch; returns the exit code."""
    config, files = run.config, run.files
    notes = [*row_lengths(config).notes, *identity.begin(config, files)]
    run.prepare()
    OmegaConf.save(config, files.config, resolve=True)
    log_start = files.log.stat().st_size if files.log.exists() else 0
    with output_to(files.log) as console:
        console.write(f"run folder {files.folder}, log {files.log}\n")
        console.write("".join(f"{line}\n" for line in notes))
        for note in [*compare_prompts(config, files.folder), *loggers.notes(config, files)]:
            console.write(f"note: {note}\n")
        for last in [False] * (run.starts - 1) + [True]:
            start = time.monotonic()
            with supervised(run.elsewhere, run.stalls(console)) as watch:
                try:
                    run.train(console, watch)
                    break
                except (KeyboardInterrupt, SystemExit):  # Ray turns SIGTERM into SystemExit
                    if watch.first_failure is None:
                        console.write("interrupted: ending all processes\n")
                        return EXIT_INTERRUPTED
                    if last or run.is_up():
                        return _failed(console, files, log_start, watch.first_failure, stacks=watch.stacks)
                    console.write(f"Ray did not start ({watch.first_failure}), as happens on a busy machine: once more\n")
                except RunFailed as failure:
                    return _failed(console, files, log_start, watch.first_failure or failure.part, failure.__cause__)
                finally:
                    watch.stop()
                    within(CLOSED_WITHIN_S if watch.first_failure is None else CLOSED_AFTER_FAILURE_S, run.close)
                    files.add_start(seconds=time.monotonic() - start, peak_memory_bytes=watch.peak_memory_bytes)
    report.finish(config, files)
    return 0


def _failed(
    console: TextIO, files: RunFiles, log_start: int, part: str | None, error: BaseException | None = None, stacks: str = ""
) -> int:
    if error is not None:
        sys.stderr.write(f"{error}\n")  # into the log
        sys.stderr.flush()
    if stacks:  # a phase stalled: that others complain came after
        console.write(f"{stacks}error: the run stalled: {part} (all stacks in {files.log})\n")
        return EXIT_FAILED
    console.write(f"error: the run failed, {what_failed(files.log, log_start, part, error)} (details in {files.log})\n")
    return EXIT_FAILED
