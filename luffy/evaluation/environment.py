"""Where samples are generated: versions of the packages, device and numerical type."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import luffy
from luffy.vllm_cpu import CPU_DISTRIBUTION, GPU_DISTRIBUTION, is_cpu_build

PACKAGES = ("vllm", "transformers", "torch")
UNUSED = "not used: no sample was generated"


def environment(*, device: str = UNUSED, dtype: str = UNUSED) -> dict[str, str]:
    """What a manifest says of the place where samples come from.

    Args:
        device: of the engine, as :func:`device_name` gives it.
        dtype: of its arithmetic.
    """
    versions = {package: _version(package) for package in PACKAGES}
    return {"luffy": luffy.__version__, **versions, "device": device, "dtype": dtype}


def device_name(engine: Any) -> str:
    """The name of the GPU, or of the CPU, that a ``vllm.LLMEngine`` runs on."""
    import torch

    kind = str(engine.vllm_config.device_config.device_type)
    return torch.cuda.get_device_name() if kind == "cuda" else f"{kind}: {_processor()}"


def _version(package: str) -> str:
    distribution = CPU_DISTRIBUTION if package == GPU_DISTRIBUTION and is_cpu_build() else package
    try:
        version = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"
    return version if distribution == package else f"{version} ({distribution})"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.machine()
