"""veRL's real engine on a machine without a GPU: the platform "cpu", and patches where veRL assumes an accelerator.

FSDP over gloo, logical GPUs in Ray, no device memory to manage. Each patch is as small as it can be; ``tests/test_upstream.py`` fails
when the patched code changes.
"""

from __future__ import annotations

import contextlib
import os
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import torch
import torch.distributed.fsdp
import verl.utils.distributed
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry
from verl.utils import torch_functional

from luffy import vllm_cpu
from verl.mix_src.upstream import runs_on_cpu


def _gives(value: Any = None) -> Callable[..., Any]:
    """A function that takes anything and gives this; by default one for which there is nothing to do without a device."""
    return lambda *_, **__: value


class CpuDevice(types.ModuleType):
    """``torch.cpu`` plus the functions of ``torch.cuda`` that veRL calls without asking for a device."""

    is_available = _gives(False)  # so that veRL's memory tools take their branch without a device
    empty_cache = ipc_collect = synchronize = set_device = _gives()
    current_device = _gives(torch.device("cpu"))
    device_count = _gives(1)  # a process
    get_device_name = _gives("CPU")
    get_rng_state = staticmethod(lambda device=None: torch.get_rng_state())
    set_rng_state = staticmethod(lambda state, device=None: torch.set_rng_state(state))
    manual_seed = manual_seed_all = staticmethod(torch.manual_seed)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cpu, name)

    def memory_allocated(self, device: Any = None) -> int:
        """Resident memory of this process in bytes."""
        return psutil.Process().memory_info().rss

    memory_reserved = max_memory_allocated = max_memory_reserved = memory_allocated

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        """Free and total memory of the machine in bytes."""
        memory = psutil.virtual_memory()
        return memory.available, memory.total


DEVICE = CpuDevice("verl_cpu_device")


@PlatformRegistry.register(platform="cpu")
class PlatformCPU(PlatformBase):
    """veRL's view of a machine without an accelerator.

    Ray hands out *logical* GPUs (``ray_kwargs.ray_init.num_gpus``), one a worker, so that veRL's placement works unchanged.
    """

    device_name = vendor_name = property(_gives("cpu"))
    device_module = property(_gives(DEVICE))
    is_available = _gives(True)
    is_platform_available = staticmethod(lambda use_smi_check=False: runs_on_cpu())
    is_ipc_supported = _gives(False)
    current_device = _gives(torch.device("cpu"))
    device_count = _gives(1)
    get_device_capability = _gives((None, None))
    set_device = synchronize = empty_cache = set_allocator_settings = profiler_start = profiler_stop = cudart = _gives()
    manual_seed = manual_seed_all = staticmethod(torch.manual_seed)
    communication_backend_name = _gives("gloo")
    ray_resource_name = _gives("GPU")
    visible_devices_envvar = _gives("CUDA_VISIBLE_DEVICES")

    @contextlib.contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        yield

    def ray_noset_envvars(self) -> list[str]:
        return []

    def rollout_env_vars(self) -> dict[str, str]:
        return {name: os.environ.get(name, value) for name, value in vllm_cpu.ENVIRONMENT.items()}


class UnpinnedOffloadPolicy(torch.distributed.fsdp.CPUOffloadPolicy):
    """CPU offload without pinned memory: veRL's reference engine asks for pinning, which needs an accelerator."""

    def __init__(self, pin_memory: bool = False) -> None:
        super().__init__(pin_memory=False)


def patch() -> None:
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
