"""One vLLM engine in a process of its own: requests in, completions out, as each finishes."""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from luffy import vllm_cpu
from luffy.evaluation.environment import device_name
from luffy.evaluation.sample_log import Key

CPU_BATCH_TOKENS = 4096  # vLLM's own default on a CPU


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """How an engine is set up.

    Attributes:
        folder: the model.
        devices: the GPUs it sees; none on a CPU.
        tensor_parallel_size: GPUs that share one copy of the model.
        max_model_len: longest prompt and response together, in tokens.
        dtype: "auto", "bfloat16", "float16" or "float32".
        gpu_memory_utilization: share of each GPU's memory that vLLM may take.
        enforce_eager: run without CUDA graphs (always so on a CPU).
    """

    folder: Path
    devices: tuple[str, ...] = ()
    tensor_parallel_size: int = 1
    max_model_len: int
    dtype: str = "auto"
    gpu_memory_utilization: float = 0.85
    enforce_eager: bool = False


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn: vLLM's parameters of the same names; ``max_tokens`` counts new tokens."""

    temperature: float = 0.6
    top_p: float = 1.0
    max_tokens: int = 8192
    stop_token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Request:
    """One sample to generate: its place in the result, the prompt's tokens, and its own seed."""

    key: Key
    token_ids: tuple[int, ...]
    seed: int


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One generated sample; ``length`` counts its tokens, and ``finish_reason`` is vLLM's ("stop" or "length")."""

    key: Key
    text: str
    length: int
    finish_reason: str


@dataclass(frozen=True, kw_only=True)
class Ready:
    """What an engine says once it has loaded the model.

    Attributes:
        sequences: how many it runs at once.
        device: the name of the GPU, or of the CPU.
        dtype: what it computes in.
    """

    sequences: int
    device: str
    dtype: str


def sample_seed(seed: int, problem: str, sample: int) -> int:
    """The seed of one sample: a function of the run's seed, the problem's key and the sample's number alone.

    Batch order, resuming and the number of GPUs therefore do not change what is drawn.
    """
    digest = hashlib.sha256(f"{seed}/{problem}/{sample}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def build_engine(options: EngineOptions) -> Any:
    """Start vLLM in this process.

    Returns:
        A ``vllm.LLMEngine``.
    """
    on_cpu = vllm_cpu.prepare()
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    if options.devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(options.devices)
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # numbers mean what nvidia-smi means by them
    from vllm import EngineArgs, LLMEngine
    from vllm.usage.usage_lib import UsageContext

    whole_prompts: dict[str, Any] = {}
    if on_cpu:  # a prompt in pieces rewinds the request's seeded generator, which PyTorch's CPU generator cannot
        whole_prompts["enable_chunked_prefill"] = False
        whole_prompts["max_num_batched_tokens"] = max(CPU_BATCH_TOKENS, options.max_model_len)
    arguments = EngineArgs(
        model=str(options.folder),
        tensor_parallel_size=options.tensor_parallel_size,
        max_model_len=options.max_model_len,
        dtype=options.dtype,
        gpu_memory_utilization=options.gpu_memory_utilization,
        enforce_eager=options.enforce_eager or on_cpu,
        disable_log_stats=True,
        use_tqdm_on_load=False,
        **whole_prompts,
    )
    return LLMEngine.from_engine_args(arguments, usage_context=UsageContext.LLM_CLASS)


def stream_text(engine: Any, token_ids: Sequence[int], sampling: Sampling, *, seed: int) -> Iterator[str]:
    """Generate one response and yield its text piece by piece."""
    from vllm.sampling_params import RequestOutputKind

    parameters = _parameters(sampling, seed, RequestOutputKind.DELTA)
    engine.add_request("0", _token_prompt(token_ids), parameters)
    while engine.has_unfinished_requests():
        for output in engine.step():
            yield output.outputs[0].text


def serve(connection: Connection, options: EngineOptions, sampling: Sampling) -> None:
    """Run an engine until the other end of the connection closes.

    Sends a :class:`Ready`; then receives lists of :class:`Request` and sends lists of :class:`Completion`.
    """
    os.setpgrp()  # Ctrl-C is for the process that started this one; its end closes the connection
    engine = build_engine(options)
    config = engine.vllm_config
    sequences, dtype = config.scheduler_config.max_num_seqs, str(config.model_config.dtype).removeprefix("torch.")
    if not _sent(connection, Ready(sequences=sequences, device=device_name(engine), dtype=dtype)):
        return
    inbox = Inbox(connection)
    keys: dict[str, Key] = {}
    while (requests := inbox.take(wait=not keys)) is not None:
        for request in requests:
            _add(engine, request, sampling, keys)
        outputs = [output for output in engine.step() if output.finished]
        if outputs and not _sent(connection, [_completion(output, keys.pop(output.request_id)) for output in outputs]):
            return


class Inbox:
    """Takes in what a connection brings, so that its other end can always send: two ends that both send would wait for
    each other once the pipe is full.

    Args:
        connection: brings lists of :class:`Request`.
    """

    def __init__(self, connection: Connection) -> None:
        self._arrived: queue.SimpleQueue[list[Request] | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(connection,), name="luffy-inbox", daemon=True).start()

    def take(self, *, wait: bool) -> list[Request] | None:
        """What has arrived; None once the other end has closed. With ``wait`` there is at least one request."""
        taken: list[Request] = []
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


def _add(engine: Any, request: Request, sampling: Sampling, keys: dict[str, Key]) -> None:
    from vllm.sampling_params import RequestOutputKind

    name = f"{request.key[0]}-{request.key[1]}"
    keys[name] = request.key
    parameters = _parameters(sampling, request.seed, RequestOutputKind.FINAL_ONLY)
    engine.add_request(name, _token_prompt(request.token_ids), parameters)


def _token_prompt(token_ids: Sequence[int]) -> dict[str, Any]:
    return {"type": "token", "prompt_token_ids": list(token_ids)}


def _parameters(sampling: Sampling, seed: int, output_kind: Any) -> Any:
    from vllm import SamplingParams

    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
        stop_token_ids=list(sampling.stop_token_ids),
        seed=seed if sampling.temperature > 0 else None,
        output_kind=output_kind,
    )


def _completion(output: Any, key: Key) -> Completion:
    sample = output.outputs[0]
    return Completion(key=key, text=sample.text, length=len(sample.token_ids), finish_reason=sample.finish_reason or "unknown")
