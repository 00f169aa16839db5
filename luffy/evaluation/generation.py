"""Samples from a model: requests shared out over the engines, completions back as they finish."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from luffy.errors import InputError
from luffy.evaluation.engine import Completion, EngineOptions, Ready, Request, Sampling, serve

AHEAD = 2  # requests that an engine holds, as a multiple of those it runs at once: it never waits for the next
STOP_SECONDS = 10


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    connection: Connection
    room: int = 0
    pending: list[Request] = field(default_factory=list)


def generate(
    requests: Iterable[Request],
    engines: Sequence[EngineOptions],
    sampling: Sampling,
    *,
    on_ready: Callable[[Ready], None] = lambda ready: None,
) -> Iterator[Completion]:
    """Generate samples on several engines at once.

    An engine is given the next request as soon as it finishes one, so that none of them runs dry before the others,
    and a completion is yielded as soon as it is there.

    Args:
        requests: the samples to generate.
        engines: one entry for each copy of the model.
        sampling: how tokens are drawn, for all of them.
        on_ready: called when all engines have loaded the model, with what the first of them says.

    Yields:
        Completions, in the order in which they finish.

    Raises:
        InputError: where an engine stops; the completions yielded before are not lost.
    """
    waiting = deque(requests)
    if not waiting:
        return
    context = multiprocessing.get_context("spawn")
    workers = [_start(context, options, sampling) for options in engines]
    try:
        loaded: list[Ready] = [_receive(worker) for worker in workers]
        for worker, ready in zip(workers, loaded, strict=True):
            worker.room = AHEAD * ready.sequences
        on_ready(loaded[0])
        outstanding = len(waiting)
        while outstanding:
            _share_out(waiting, workers)
            for worker in _ready(workers):
                completions = _receive(worker)
                worker.room += len(completions)
                outstanding -= len(completions)
                yield from completions
    finally:
        _stop(workers)


def _start(context: multiprocessing.context.BaseContext, options: EngineOptions, sampling: Sampling) -> _Worker:
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, options, sampling), name="luffy-engine")
    process.start()
    theirs.close()
    return _Worker(process=process, connection=ours)


def _share_out(waiting: deque[Request], workers: Sequence[_Worker]) -> None:
    """Deal the requests out like cards, one to each worker with room in turn."""
    while waiting and any(worker.room for worker in workers):
        for worker in workers:
            if waiting and worker.room:
                worker.pending.append(waiting.popleft())
                worker.room -= 1
    for worker in workers:
        if worker.pending:
            try:
                worker.connection.send(worker.pending)
            except (BrokenPipeError, ConnectionResetError) as error:
                raise _stopped(worker) from error
            worker.pending = []


def _ready(workers: Sequence[_Worker]) -> list[_Worker]:
    ready = wait([worker.connection for worker in workers])
    return [worker for worker in workers if worker.connection in ready]


def _receive(worker: _Worker) -> Any:
    """A :class:`Ready` at first; then lists of completions."""
    try:
        return worker.connection.recv()
    except (EOFError, ConnectionResetError) as error:
        raise _stopped(worker) from error


def _stopped(worker: _Worker) -> InputError:
    worker.process.join(STOP_SECONDS)
    return InputError(
        f"an engine stopped (exit code {worker.process.exitcode}; its own message is above); the finished samples are "
        "kept, and the same command goes on from there"
    )


def _stop(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.connection.close()
    for worker in workers:
        worker.process.join(STOP_SECONDS)
        if worker.process.is_alive():
            worker.process.terminate()
            worker.process.join(STOP_SECONDS)
