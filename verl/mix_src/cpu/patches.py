"""The places where veRL 0.9.1 or a library below it assumes an accelerator, patched at run time.

Each is as small as it can be; ``tests/test_upstream.py`` fails when the patched code changes.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable

import torch
import torch.distributed.fsdp
import verl.utils.distributed
from verl.utils import torch_functional

from luffy import vllm_cpu


class UnpinnedOffloadPolicy(torch.distributed.fsdp.CPUOffloadPolicy):
    """CPU offload without pinned memory: veRL's reference engine asks for pinning, which needs an accelerator."""

    def __init__(self, pin_memory: bool = False) -> None:
        super().__init__(pin_memory=False)


def apply() -> None:
    """Patch this process: engine lookup, process-group backend, vLLM's name, CPU offload, log-probabilities."""
    os.environ.setdefault("VERL_ENGINE_DEVICE", "cuda")  # veRL registers its FSDP engine for cuda and npu only
    warnings.filterwarnings("ignore", r"\w+ engine is not available", UserWarning)  # five that need an accelerator
    vllm_cpu.prepare()
    torch.distributed.fsdp.CPUOffloadPolicy = UnpinnedOffloadPolicy
    if not hasattr(torch_functional.logprobs_from_logits_v2, "upstream"):
        torch_functional.logprobs_from_logits_v2 = _whole_batch(torch_functional.logprobs_from_logits_v2)
    if not hasattr(verl.utils.distributed.initialize_global_process_group_ray, "upstream"):
        verl.utils.distributed.initialize_global_process_group_ray = _gloo_by_default(
            verl.utils.distributed.initialize_global_process_group_ray
        )


def _gloo_by_default(upstream: Callable[..., None]) -> Callable[..., None]:
    """veRL would ask for the backend "cpu:gloo,cpu:gloo", which PyTorch refuses."""

    def initialize(timeout_second: int | None = None, backend: str | None = None) -> None:
        upstream(timeout_second=timeout_second, backend=backend or "cpu:gloo")

    initialize.upstream = upstream
    return initialize


def _whole_batch(upstream: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Without flash-attn's kernel veRL takes the log-sum-exp of packed rows token by token, a third of its time."""

    def logprobs_from_logits(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if logits.dtype not in (torch.float32, torch.float64):
            return upstream(logits, labels)
        return logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)

    logprobs_from_logits.upstream = upstream
    return logprobs_from_logits
