"""What can be known to be wrong with a pilot before it starts: settings, files, and a folder that is another one's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from luffy.data.check import check_layout
from luffy.errors import InputError
from luffy.files import write_json
from miniature.comparison.cells import read_json
from miniature.comparison.methods import METHODS
from miniature.pilot.ladder import Rung
from miniature.pilot.runs import RL_MODULE, Task, training_command


def compose(command: Sequence[str]) -> DictConfig:
    """The Hydra config of a training command."""
    import hydra

    module, *overrides = command
    folder, name = ("config", "mix_ppo") if module == RL_MODULE else ("config.sft", "sft")
    with hydra.initialize_config_module(f"verl.mix_src.{folder}", version_base=None):
        return hydra.compose(name, overrides=list(overrides))


def check_methods(task: Task, names: Sequence[str], rungs: Sequence[Rung]) -> list[str]:
    """Compose every method's run; lines on what is missing here.

    Raises:
        InputError: where a method's settings are wrong, its name first.
    """
    from hydra.errors import HydraException

    from verl.mix_src.run import preflight

    missing: dict[str, list[str]] = {}
    for method in [METHODS[name] for name in names]:
        for each in (METHODS[method.starts_from], method) if method.starts_from else (method,):
            command = training_command(task, each, steps=rungs[0].step, last=rungs[-1].step, seed=0, folder=Path("outputs/pilot"))
            try:
                config = compose(command)
            except HydraException as error:
                raise InputError(f"{method.name}: {str(error).splitlines()[0]}") from error
            is_rl = command[0] == RL_MODULE
            for line in preflight.problems(preflight.RL_CONFIG if is_rl else preflight.SFT_CONFIG, config):
                raise InputError(f"{method.name}: {line}")
            for line in preflight.problems(_reads(is_rl), config):
                missing.setdefault(line, []).append(method.name)
    return [line if len(set(of)) > 1 else f"{of[0]}: {line}" for line, of in missing.items()]


def _reads(is_rl: bool) -> tuple:
    from verl.mix_src.run.preflight import inputs, machine

    shared = (machine.gpus, inputs.model, inputs.lengths)
    return (inputs.train_files, inputs.teacher, *shared) if is_rl else (inputs.sft_files, inputs.sft_traces, *shared)


def files_wrong(task: Task) -> Iterator[str]:
    """What is wrong with the held-out files."""
    for file in (task.heldout, task.heldout2):
        if file is not None:
            try:
                check_layout(file, "eval")
            except InputError as error:
                yield str(error)


def begin(folder: Path, identity: dict[str, Any]) -> None:
    """Make the folder this pilot's.

    Args:
        folder: of all its files.
        identity: what it is, as JSON values.

    Raises:
        InputError: where it is another one's.
    """
    file = folder / "pilot.json"
    theirs = read_json(file)
    if theirs is None and folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} holds files that no pilot made; give another --output_dir")
    if theirs is not None and theirs != identity:
        differing = ", ".join(name for name in identity if identity[name] != theirs.get(name))
        raise InputError(f"{folder} holds another pilot ({differing} differ); give another --output_dir, or delete it")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(file, identity)
