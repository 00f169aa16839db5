"""What several test files share: the embedded example, built once and kept."""

from __future__ import annotations

import contextlib
import copy
import fcntl
import functools
import io
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before anything reads them: what tests fetch or convert never goes into the user's own cache.
HUB_CACHE = tempfile.TemporaryDirectory(prefix="luffy-tests-")
os.environ["HF_HOME"] = HUB_CACHE.name
os.environ["HF_HUB_CACHE"] = f"{HUB_CACHE.name}/hub"
os.environ["HF_DATASETS_CACHE"] = f"{HUB_CACHE.name}/datasets"

import omegaconf
import pytest
import torch
from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first, so that two workers end together; of them one file that builds the embedded example, and the others that
    want it last, so that no worker waits for it."""
    builders = {item.path: None for item in items if item.get_closest_marker("integration") and _wants_example(item)}
    waiting = set(list(builders)[1:])
    items.sort(key=lambda item: (item.get_closest_marker("integration") is None, item.path in waiting))


def _wants_example(item: pytest.Item) -> bool:
    return "tiny_example" in getattr(item, "fixturenames", ())


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_interrupts():
    """A shell starts background jobs with SIGINT ignored, and every process of a test would inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def config_files_parsed_once() -> Iterator[None]:
    """Half of the time of composing a config is parsing, and the tests compose hundreds of the same files and interpolations."""
    load, parsed = OmegaConf.load, {}

    def once(file: Any) -> Any:
        if not hasattr(file, "read"):
            return load(file)
        text = file.read()
        if text not in parsed:
            parsed[text] = load(io.StringIO(text))
        return copy.deepcopy(parsed[text])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OmegaConf, "load", once)
        for module in ("omegaconf.base", "omegaconf._utils"):
            patch.setattr(f"{module}.parse", functools.cache(omegaconf.grammar_parser.parse))
        yield


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Sums in one order, as in the ranks that a gradient is compared with."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Kept:
    """A grader that nobody but the end of the tests closes."""

    def __init__(self, grader: Any) -> None:
        self._grader = grader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._grader, name)

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave it open."""

    def close(self) -> None:
        """Leave it open."""


@pytest.fixture(scope="session")
def graders() -> Iterator[Callable[[float], Kept]]:
    """The grader of each time limit, started where it is first needed."""
    from luffy.rewards import Grader

    with contextlib.ExitStack() as stack:
        yield functools.cache(lambda limit: Kept(stack.enter_context(Grader(workers=1, time_limit_s=limit))))


@pytest.fixture
def shared_grader(monkeypatch, graders) -> None:
    """Commands that are run in this process use one grader: each start of its own takes a second of processor time."""
    for module in ("luffy.data.judge", "luffy.evaluation.scoring"):
        monkeypatch.setattr(f"{module}.Grader", lambda *, time_limit_s, **_: graders(time_limit_s))


@pytest.fixture(scope="session")
def tiny_example():
    """The embedded example in ``outputs/tiny``, built by its command where it is not there (about a minute)."""
    from miniature.example import build

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
