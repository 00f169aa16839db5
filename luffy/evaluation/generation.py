"""Samples from a model: requests shared out over engines in processes of their own, completions back as they finish."""

from __future__ import annotations

import logging
import multiprocessing
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from luffy.errors import InputError
from luffy.evaluation.engine import EngineSetup, Sampling, add_request, build_engine, device_name, environment
from luffy.evaluation.samples import Key

AHEAD = 2  # requests that an engine holds, as a multiple of those it runs at once: it never waits for the next
STOP_SECONDS = 10

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Request:
    """One sample to generate: its place in the result, the prompt's tokens, and its own seed."""

    key: Key
    token_ids: tuple[int, ...]
    seed: int


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One generated sample; ``length`` counts its tokens, and ``finish_reason`` is vLLM's ("stop" or "length").

    With ``Sampling.probabilities`` its tokens come along, EOS included, each with the log of the probability that it was drawn with.
    """

    key: Key
    text: str
    length: int
    finish_reason: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()


def generate(
    requests: Iterable[Request],
    engines: Sequence[EngineSetup],
    sampling: Sampling,
    *,
    on_ready: Callable[[dict[str, str]], None] = lambda environment: None,
    kept: Engines | None = None,
) -> Generator[Completion, None, None]:
    """Generate samples on several engines at once.

    An engine is given the next request as soon as it finishes one, so that none of them runs dry before the others,
    and a completion is yielded as soon as it is there.

    Args:
        requests: the samples to generate.
        engines: one entry for each copy of the model.
        sampling: how tokens are drawn, for all of them.
        on_ready: called when all engines have loaded the model, with the :func:`environment` of the first of them.
        kept: starts the engines, or has them already, and keeps them; None ends them with the last completion.

    Yields:
        Completions, in the order in which they finish.

    Raises:
        InputError: where an engine stops; the completions yielded before are not lost.
    """
    waiting = deque((request, sampling) for request in requests)
    if not waiting:
        return
    running, outstanding = kept or Engines(), len(waiting)
    try:
        workers = running.ready(engines, probabilities=sampling.probabilities)
        on_ready(workers[0].environment)
        while outstanding:
            _deal(waiting, workers)
            ready = wait([worker.connection for worker in workers])
            for worker in workers:
                if worker.connection in ready:
                    completions = worker.receive()
                    worker.room += len(completions)
                    outstanding -= len(completions)
                    yield from completions
    finally:
        if kept is None or outstanding:
            running.close()


class Engines:
    """Engines that serve several calls of :func:`generate`; a context manager, whose end is theirs."""

    def __init__(self) -> None:
        self._asked: tuple[Sequence[EngineSetup], bool] = ((), False)
        self._workers: list[_Worker] = []

    def __enter__(self) -> Engines:
        """Nothing runs yet."""
        return self

    def __exit__(self, *raised: object) -> None:
        """End them."""
        self.close()

    def ready(self, setups: Sequence[EngineSetup], *, probabilities: bool) -> list[_Worker]:
        """The engines, with the model loaded: those that run where they are the same, else new ones in their place.

        Raises:
            InputError: where one stops.
        """
        if not self._workers or self._asked != (setups, probabilities):
            self.close()
            place = f"{len(setups[0].devices)} GPU" if setups[0].devices else "the CPU"
            logger.info("loading the model: %d of it, each on %s", len(setups), place)
            self._asked, self._workers = (setups, probabilities), [_Worker.start(setup, probabilities) for setup in setups]
            for worker in self._workers:
                worker.load()
        return self._workers

    def close(self) -> None:
        """End what runs."""
        _stop(self._workers)
        self._workers = []


@dataclass(eq=False)
class _Worker:
    """The process of an engine; ``room`` is for how many more requests."""

    process: BaseProcess
    connection: Connection
    room: int = 0
    pending: list[tuple[Request, Sampling]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def start(cls, setup: EngineSetup, probabilities: bool) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, setup, probabilities), name="luffy-engine")
        process.start()
        theirs.close()
        return cls(process=process, connection=ours)

    def load(self) -> None:
        """Wait for the model."""
        sequences, self.environment = self.receive()
        self.room = AHEAD * sequences

    def send(self) -> None:
        try:
            self.connection.send(self.pending)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise self._stopped() from error
        self.pending = []

    def receive(self) -> Any:
        try:
            return self.connection.recv()
        except (EOFError, ConnectionResetError) as error:
            raise self._stopped() from error

    def _stopped(self) -> InputError:
        self.process.join(STOP_SECONDS)
        return InputError(
            f"an engine stopped (exit code {self.process.exitcode}; its own message is above); the finished samples are "
            "kept, and the same command goes on from there"
        )


def _deal(waiting: deque[tuple[Request, Sampling]], workers: Sequence[_Worker]) -> None:
    """Deal the requests out like cards, one to each worker with room in turn."""
    while waiting and any(worker.room for worker in workers):
        for worker in workers:
            if waiting and worker.room:
                worker.pending.append(waiting.popleft())
                worker.room -= 1
    for worker in workers:
        if worker.pending:
            worker.send()


def _stop(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.connection.close()
    for worker in workers:
        worker.process.join(STOP_SECONDS)
        if worker.process.is_alive():
            worker.process.terminate()
            worker.process.join(STOP_SECONDS)


def _serve(connection: Connection, setup: EngineSetup, probabilities: bool) -> None:
    """Run an engine until the other end of the connection closes.

    Sends how many sequences it runs at once and its environment; then receives lists of (:class:`Request`, how it is drawn) and
    sends lists of :class:`Completion`.
    """
    os.setpgrp()  # Ctrl-C is for the process that started this one; its end closes the connection
    engine = build_engine(setup, probabilities=probabilities)
    config = engine.vllm_config
    where = environment(device=device_name(config), dtype=str(config.model_config.dtype).removeprefix("torch."))
    alive = _sent(connection, (config.scheduler_config.max_num_seqs, where))
    inbox = Inbox(connection)
    keys: dict[str, Key] = {}
    while alive and (requests := inbox.take(wait=not keys)) is not None:
        for request, sampling in requests:
            name = f"{request.key[0]}-{request.key[1]}"
            keys[name] = request.key
            add_request(engine, name, request.token_ids, sampling, seed=request.seed, output_kind="FINAL_ONLY")
        done = [(output.outputs[0], keys.pop(output.request_id)) for output in engine.step() if output.finished]
        completions = [_completion(each, key) for each, key in done]
        alive = not completions or _sent(connection, completions)


def _completion(output: Any, key: Key) -> Completion:
    ids = tuple(output.token_ids)
    drawn = (
        {}
        if output.logprobs is None
        else {"token_ids": ids, "logprobs": tuple(output.logprobs[i][each].logprob for i, each in enumerate(ids))}
    )
    return Completion(key=key, text=output.text, length=len(ids), finish_reason=output.finish_reason or "unknown", **drawn)


class Inbox:
    """Takes in what a connection brings, so that its other end can always send: two ends that both send would wait for
    each other once the pipe is full.

    Args:
        connection: brings lists of requests.
    """

    def __init__(self, connection: Connection) -> None:
        self._arrived: queue.SimpleQueue[list[Any] | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(connection,), name="luffy-inbox", daemon=True).start()

    def take(self, *, wait: bool) -> list[Any] | None:
        """What has arrived; None once the other end has closed. With ``wait`` there is at least one request."""
        taken: list[Any] = []
        while wait and not taken or not self._arrived.empty():
            arrived = self._arrived.get()
            if arrived is None:
                return None
            taken += arrived
        return taken

    def _read(self, connection: Connection) -> None:
        try:
            while True:
                self._arrived.put(connection.recv())
        except (EOFError, OSError):
            self._arrived.put(None)


def _sent(connection: Connection, message: Any) -> bool:
    try:
        connection.send(message)
    except (BrokenPipeError, ConnectionResetError):
        return False  # the run was killed
    return True
