"""The set-up: which Python it takes, in which order it installs, and what it does where flash-attn cannot be had.

The interpreter is a stand-in that notes what it is asked to install: the real sets are gigabytes. The CPU set itself is
what every other test runs in.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PYTHON = """#!/bin/bash
case "$*" in
  *sys.version_info*) echo {version} ;;
  *torch.version.cuda*) echo 13.0 ;;
  "-m venv"*) mkdir -p "${{@: -1}}/bin"; cp "$0" "${{@: -1}}/bin/python" ;;
  "-m pip config list") echo "$PIP_SETTINGS" ;;
  *" uv=="*) test -z "$UV" || cp "$UV" "${{0%/*}}/uv" ;;
  "-m pip"*) echo "${{@:5}}" >> {log}; case "$*" in *"$UNAVAILABLE"*) exit 1 ;; esac ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in (
        "exp_scripts",
        "requirements.txt",
        "requirements.lock",
        "requirements-cpu.txt",
        "requirements-cpu.lock",
    ):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def set_up(checkout: Path, version: str = "3.12", unavailable: str = "nothing", nvcc: str | None = None, **variables: str):
    """Run setup.sh with a stand-in interpreter; return the process and the arguments of each ``pip install``."""
    tools, log = checkout / "tools", checkout / "pip.log"
    tools.mkdir(exist_ok=True)
    log.unlink(missing_ok=True)
    (tools / "python3.12").write_text(PYTHON.format(version=version, log=log))
    (tools / "nvcc").write_text(f"#!/bin/sh\n[ -n '{nvcc or ''}' ] && echo 'Cuda compilation tools, release {nvcc}, V1'\n")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    environment = {
        "PATH": f"{tools}:/usr/bin:/bin",
        "PROFILE": "gpu",
        "PYTHON": str(tools / "python3.12"),
        "UNAVAILABLE": unavailable,
        **variables,
    }
    run = subprocess.run(["bash", "exp_scripts/setup.sh"], cwd=checkout, env=environment, capture_output=True, text=True)
    return run, log.read_text().splitlines() if log.exists() else []


def place(calls: list[str], part: str) -> int:
    return next((number for number, call in enumerate(calls) if part in call), -1)


def test_the_project_is_installed_before_flash_attn_and_stays_without_it(checkout):
    run, calls = set_up(checkout, unavailable="flash-attn", nvcc="13.0")
    assert run.returncode == 0, run.stderr
    assert 0 <= place(calls, "rest.txt") < place(calls, "-e .") < place(calls, "flash-attn==2.8.3")
    assert (checkout / ".venv/overrides").read_text() == "attention=sdpa\n"
    assert sum("attention=sdpa" in line for line in run.stdout.splitlines()) == 1
    show = ["bash", "-c", "source exp_scripts/profile.sh; machine_overrides"]
    shown = subprocess.run(show, cwd=checkout, env={"PROFILE": "gpu"}, capture_output=True, text=True)
    assert shown.stdout == "attention=sdpa\n"
    again, calls = set_up(checkout, unavailable="flash-attn", nvcc="13.0")
    assert (again.returncode, calls, again.stdout) == (0, [], "")  # a retry does nothing twice


def test_uv_installs_from_where_pip_looks_and_pip_where_it_cannot(checkout, tmp_path):
    uv, log = tmp_path / "stand_in", tmp_path / "uv.log"
    mirrors = "global.extra-index-url='https://a.example/simple file:///packages https://b.example/simple'\nglobal.index-url='https://m.example/simple'"
    for exit_code in (0, 1):
        shutil.rmtree(checkout / ".venv", ignore_errors=True)
        uv.write_text(f'#!/bin/sh\necho "$UV_DEFAULT_INDEX|$UV_INDEX|$UV_INDEX_STRATEGY|$*" >> {log}\nexit {exit_code}\n')
        uv.chmod(0o755)
        log.write_text("")
        run, calls = set_up(checkout, FLASH_ATTN_WHEEL="none", UV=str(uv), PIP_SETTINGS=mirrors)
        asked = log.read_text().splitlines()
        looks = "https://m.example/simple|https://a.example/simple https://b.example/simple|unsafe-best-match|pip install -q --python"
        assert run.returncode == 0 and len(asked) == 3 and all(line.startswith(looks) for line in asked)
        assert 0 <= place(asked, "rest.txt") < place(asked, "-e .")
        assert place(calls, "torch.txt") >= 0 and (place(calls, "rest.txt") >= 0) == (place(calls, "-e .") >= 0) == bool(exit_code)


def test_flash_attn_is_built_only_by_the_compiler_of_torchs_cuda(checkout):
    run, calls = set_up(checkout, nvcc="12.4")
    assert run.returncode == 0 and place(calls, "flash-attn") == -1
    assert [line for line in run.stdout.splitlines() if "12.4 found" in line and "nvcc 13" in line]
    assert (checkout / ".venv/overrides").exists()
    shutil.rmtree(checkout / ".venv")
    run, calls = set_up(checkout, nvcc="13.1")
    assert run.returncode == 0 and place(calls, "flash-attn==2.8.3") > place(calls, "-e .")
    assert not (checkout / ".venv/overrides").exists()


def test_a_wheel_of_flash_attn_is_taken_and_remembered(checkout):
    run, calls = set_up(checkout, FLASH_ATTN_WHEEL="wheels/flash_attn.whl")
    assert run.returncode == 0 and calls[-1].endswith("wheels/flash_attn.whl")
    assert not (checkout / ".venv/overrides").exists()
    assert set_up(checkout)[1] == []  # the variable is not needed again
    run, calls = set_up(checkout, FLASH_ATTN_WHEEL="other.whl", unavailable="other.whl")
    assert run.returncode == 2 and run.stderr.splitlines() == ["error: FLASH_ATTN_WHEEL=other.whl does not fit, see above"]
    run, _ = set_up(checkout, FLASH_ATTN_WHEEL="none")
    assert run.returncode == 0 and (checkout / ".venv/overrides").exists()


@pytest.mark.parametrize(
    ("version", "python", "message"),
    [
        ("3.10", None, r"PYTHON=\S+ is Python 3\.10; the locked packages need 3\.11 or 3\.12"),
        ("3.13", None, r"PYTHON=\S+ is Python 3\.13; .*"),
        ("3.12", "python9", r"PYTHON=python9 does not run; give an interpreter of Python 3\.11 or 3\.12"),
    ],
)
def test_an_unsuitable_python_is_refused_before_anything_is_installed(checkout, version, python, message):
    run, calls = set_up(checkout, version=version, **({"PYTHON": python} if python else {}))
    assert (run.returncode, calls) == (2, [])
    assert re.fullmatch(f"error: {message}\n", run.stderr), run.stderr


def test_another_python_than_the_environments_is_said_and_made_anew(checkout):
    set_up(checkout, version="3.11")
    run, calls = set_up(checkout, version="3.12")
    assert run.returncode == 0 and calls
    assert ".venv has 3.11, 3.12 is wanted: making it anew" in run.stdout


def test_tests_have_an_environment_of_their_own_beside_a_gpu_set(checkout):
    shutil.copy(ROOT / "Makefile", checkout / "Makefile")
    for installed, folder in (("123 456 gpu", ".venv-cpu"), ("123 456 cpu", ".venv"), (None, ".venv")):
        (checkout / ".venv").mkdir(exist_ok=True)
        (checkout / ".venv/.installed").unlink(missing_ok=True)
        if installed:
            (checkout / ".venv/.installed").write_text(installed + "\n")
        planned = subprocess.run(["make", "-n", "test"], cwd=checkout, env=dict(os.environ), capture_output=True, text=True)
        assert f"\n{folder}/bin/python -m pytest" in planned.stdout


@pytest.mark.parametrize("name", ["requirements", "requirements-cpu"])
def test_the_lock_is_complete_and_holds_what_is_asked_for(name):
    lines = [line.partition("#")[0].strip() for line in (ROOT / f"{name}.txt").read_text().splitlines()]
    direct = [Requirement(line) for line in lines if line and not line.startswith("flash-attn")]
    pins = dict(line.split("==") for line in (ROOT / f"{name}.lock").read_text().lower().splitlines())
    for requirement in direct:
        pin = pins[requirement.name.lower()]
        assert requirement.specifier.contains(Version(pin)), f"{requirement} but {pin} is locked: make lock"


def test_the_one_package_that_is_compiled_keeps_nothing_else_back(checkout):
    for unavailable, said in (("compiled.txt", 1), ("nothing", 0)):
        shutil.rmtree(checkout / ".venv", ignore_errors=True)
        run, calls = set_up(checkout, unavailable=unavailable, PROFILE="cpu")
        assert run.returncode == 0, run.stderr
        assert place(calls, "rest.txt") < place(calls, "compiled.txt") < place(calls, "-e .")
        assert "pycosat" not in (checkout / ".venv/rest.txt").read_text()
        assert (checkout / ".venv/compiled.txt").read_text() == "pycosat==0.6.6\n"
        assert run.stdout.count("procedural tasks (data/prepare_gym.py) are left out") == said
    run, calls = set_up(checkout, unavailable="flash-attn", VENV=".venv-gpu")
    assert run.returncode == 0 and place(calls, "compiled.txt") == -1  # the GPU set has no such package
