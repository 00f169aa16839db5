"""The places where veRL 0.9.1 or a library below it assumes an accelerator, patched at run time.

Each is as small as it can be; ``tests/test_upstream.py`` fails when the patched code changes.
"""

from __future__ import annotations

import os
import warnings

import torch.distributed.fsdp
import verl.utils.distributed

from luffy import vllm_cpu


class UnpinnedOffloadPolicy(torch.distributed.fsdp.CPUOffloadPolicy):
    """CPU offload without pinned memory: veRL's reference engine asks for pinning, which needs an accelerator."""

    def __init__(self, pin_memory: bool = False) -> None:
        super().__init__(pin_memory=False)


def apply() -> None:
    """Patch this process: engine lookup, process-group backend, vLLM's distribution name, CPU offload."""
    os.environ.setdefault("VERL_ENGINE_DEVICE", "cuda")  # veRL registers its FSDP engine for cuda and npu only
    warnings.filterwarnings("ignore", r"\w+ engine is not available", UserWarning)  # five that need an accelerator
    vllm_cpu.prepare()
    torch.distributed.fsdp.CPUOffloadPolicy = UnpinnedOffloadPolicy
    if not hasattr(verl.utils.distributed.initialize_global_process_group_ray, "upstream"):
        verl.utils.distributed.initialize_global_process_group_ray = _gloo_by_default(
            verl.utils.distributed.initialize_global_process_group_ray
        )


def _gloo_by_default(upstream):
    """veRL would ask for the backend "cpu:gloo,cpu:gloo", which PyTorch refuses."""

    def initialize(timeout_second: int | None = None, backend: str | None = None) -> None:
        upstream(timeout_second=timeout_second, backend=backend or "cpu:gloo")

    initialize.upstream = upstream
    return initialize
