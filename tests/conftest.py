"""What several test files share: the embedded example, built once and kept."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Before anything reads them: what tests fetch or convert never goes into the user's own cache.
HUB_CACHE = tempfile.TemporaryDirectory(prefix="luffy-tests-")
os.environ["HF_HOME"] = HUB_CACHE.name
os.environ["HF_HUB_CACHE"] = f"{HUB_CACHE.name}/hub"
os.environ["HF_DATASETS_CACHE"] = f"{HUB_CACHE.name}/datasets"

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_interrupts():
    """A shell starts background jobs with SIGINT ignored, and every process of a test would inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Sums in one order, as in the ranks that a gradient is compared with."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_example():
    """The embedded example in ``outputs/tiny``, built by its command where it is not there (about a minute)."""
    from luffy.tiny.example import build

    folder = ROOT / "outputs" / "tiny"
    folder.parent.mkdir(exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:  # tests run side by side
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run([sys.executable, ROOT / "data" / "prepare_tiny.py", "--output_dir", folder], check=True)
    return build(folder, show_progress=False)


@pytest.fixture(scope="session")
def tiny_model_dir(tiny_example) -> Path:
    """The folder of the embedded example's base model."""
    return tiny_example.model
