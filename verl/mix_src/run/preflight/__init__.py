"""Everything that can be known to be wrong before a run starts, each as one line that says what to do.

``overrides`` looks at the names that were typed, ``settings`` at the composed config, ``inputs`` at data and model, ``machine`` at
devices, disk and Ray. A check is a function of the config that yields lines or raises InputError; each kind of run names here those
that it takes, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from omegaconf import DictConfig

from luffy.errors import InputError
from verl.mix_src.run import loggers
from verl.mix_src.run.preflight import inputs, machine, settings

Check = Callable[[DictConfig], Iterable[str] | None]

RL_CONFIG: tuple[Check, ...] = (
    settings.guidance, settings.method, settings.store, settings.stages, settings.engines, settings.worker_extension, settings.batches,
    settings.sequence_parallel, settings.rollout_correction, settings.reward, settings.upstream, settings.separate_async, loggers.names_as_text,
    loggers.secrets_in,
)  # fmt: skip
RL_MACHINE: tuple[Check, ...] = (
    inputs.train_files, inputs.val_files, inputs.model, inputs.teacher, inputs.lengths, machine.gpus, machine.attention,
    machine.resources, machine.folder, machine.own_cluster, machine.joined_cluster, loggers.missing,
)  # fmt: skip
SFT_CONFIG: tuple[Check, ...] = (settings.sft_batches, settings.sft_checkpoints, settings.sequence_parallel, loggers.names_as_text)
SFT_MACHINE: tuple[Check, ...] = (
    machine.gpus, machine.attention, inputs.sft_files, inputs.model, inputs.sft_traces, inputs.lengths, loggers.missing,
)  # fmt: skip


def problems(checks: Iterable[Check], config: DictConfig) -> Iterator[str]:
    """Lines that the checks yield, or raise as InputError, each once; a check that raises does not keep the next from running."""
    said = set()
    for check in checks:
        try:
            found = list(check(config) or ())
        except InputError as error:
            found = [str(error)]
        yield from (line for line in found if line not in said)
        said.update(found)


def refuse(checks: Iterable[Check], config: DictConfig) -> None:
    """Raise InputError at the first of :func:`problems`."""
    for problem in problems(checks, config):
        raise InputError(problem)
