#!/usr/bin/env bash
# Make the environment ($VENV, default .venv) and install the locked packages: the GPU set where there is an NVIDIA GPU, else the CPU set.
#   PROFILE=cpu|gpu          choose explicitly
#   PYTHON=python3.12        choose the interpreter; 3.11 (with which the tests run) is taken before 3.12
#   FLASH_ATTN_WHEEL=PATH    a wheel of flash-attn, or its URL; `none`: go without (as where none can be had)
set -euo pipefail
cd "$(dirname "$0")/.."
source exp_scripts/profile.sh

stamp=$VENV/.installed flash_attn=$VENV/.flash_attn # what was installed, and the FLASH_ATTN_WHEEL that was asked for
wanted=$(cat requirements*.txt requirements*.lock setup.py pyproject.toml exp_scripts/setup.sh | cksum)" $PROFILE"

say() { echo "[setup] $*"; }
fail() { echo "error: $*" >&2; exit 2; }
pip() { "$VENV/bin/python" -m pip --disable-pip-version-check install -qq --no-compile "$@"; }
install() { "$VENV/bin/uv" pip install -q --python "$VENV/bin/python" "$@" 2> /dev/null || pip "$@"; } # pip says what is wrong
version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }
supported() { case "$(version "$1")" in 3.11 | 3.12) ;; *) return 1 ;; esac; }

choose_python() {
  if [ -n "${PYTHON:-}" ]; then
    [ -n "$(version "$PYTHON")" ] || fail "PYTHON=$PYTHON does not run; give an interpreter of Python 3.11 or 3.12"
    supported "$PYTHON" || fail "PYTHON=$PYTHON is Python $(version "$PYTHON"); the locked packages need 3.11 or 3.12"
    return
  fi
  for PYTHON in python3.11 python3.12 python3; do ! supported "$PYTHON" || return 0; done
  fail "no Python 3.11 or 3.12 found (python3: $(version python3 || echo none)); install one, or set PYTHON=PATH"
}

make_environment() {
  if [ -x "$VENV/bin/python" ]; then
    local here; here=$(version "$VENV/bin/python" || echo "a missing Python")
    if [ -z "${PYTHON:-}" ] && supported "$VENV/bin/python"; then return; fi
    choose_python
    [ "$here" != "$(version "$PYTHON")" ] || return 0
    say "$VENV has $here, $(version "$PYTHON") is wanted: making it anew"
  else
    choose_python
  fi
  say "virtual environment $VENV ($("$PYTHON" --version), profile $PROFILE)"
  "$PYTHON" -m venv --clear "$VENV" || fail "$PYTHON cannot make a virtual environment; on Debian: apt-get install python3-venv"
}

pip_urls() { # of one of pip's settings, environment first
  "$VENV/bin/python" -m pip config list 2> /dev/null | sed -n "s/^[^=]*\.$1='\(.*\)'\$/\1/p" |
    { grep -o 'https\?://[^ \\]*' || true; } | xargs
}

get_uv() { # it fetches and unpacks packages side by side: 12 s for pip's 50; where it cannot be had, pip does all
  pip uv==0.13.9 2> /dev/null || return 0
  local index more
  index=$(pip_urls index-url) more=$(pip_urls extra-index-url)
  [ -z "$index" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-${index%% *}}"
  [ -z "$more" ] || export UV_INDEX="${UV_INDEX:-$more}" UV_INDEX_STRATEGY="${UV_INDEX_STRATEGY:-unsafe-best-match}" # as pip does
}

install_locked() { # install_locked LOCK: a complete lock needs no dependency resolution
  say "PyTorch"
  grep '^torch==' "$1" > "$VENV/torch.txt"
  # As pip is configured (PyPI, a mirror, a folder of wheels), else from PyTorch's own index of CPU builds.
  pip --no-deps -r "$VENV/torch.txt" 2>/dev/null || pip --no-deps --extra-index-url https://download.pytorch.org/whl/cpu -r "$VENV/torch.txt"
  say "veRL, Ray, vLLM and what they need: $(wc -l < "$1") packages${2:-}"
  grep -v -e '^torch==' -e '^pycosat==' "$1" > "$VENV/rest.txt"
  install --no-deps -r "$VENV/rest.txt"
  # the one package without a wheel that is compiled; reasoning-gym alone asks for it
  ! grep '^pycosat==' "$1" > "$VENV/compiled.txt" || pip --no-deps -r "$VENV/compiled.txt" 2>/dev/null ||
    say "pycosat does not build here (it needs a C compiler and Python's headers): procedural tasks (data/prepare_gym.py) are left out"
}

install_flash_attn() { # fails where it cannot be had
  local wheel=${FLASH_ATTN_WHEEL:-$(cat "$flash_attn" 2>/dev/null || true)} cuda nvcc
  echo "$wheel" > "$flash_attn"
  if [ "$wheel" = none ]; then return 1; fi
  if [ -n "$wheel" ]; then
    say "flash-attn from $wheel"
    pip --no-deps "$wheel" && "$VENV/bin/python" -c 'import flash_attn' || fail "FLASH_ATTN_WHEEL=$wheel does not fit, see above"
    return
  fi
  cuda=$("$VENV/bin/python" -c 'import torch; print(torch.version.cuda)')
  nvcc=$("${CUDA_HOME:+$CUDA_HOME/bin/}nvcc" --version 2>/dev/null | sed -n 's/.*release \([0-9.]*\),.*/\1/p')
  if [ "${nvcc%%.*}" != "${cuda%%.*}" ]; then
    say "flash-attn has no wheel for CUDA $cuda, and needs nvcc ${cuda%%.*} to build: ${nvcc:-none} found (CUDA_HOME chooses another)"
    return 1
  fi
  say "flash-attn: built from source, up to an hour (FLASH_ATTN_WHEEL=PATH takes a wheel, FLASH_ATTN_WHEEL=none goes without)"
  pip --no-build-isolation --no-deps "$(sed -n 's/^\(flash-attn==[^ ]*\).*/\1/p' requirements.txt)" && "$VENV/bin/python" -c 'import flash_attn'
}

same_python() { [ -z "${PYTHON:-}" ] || [ "$(version "$PYTHON")" = "$(version "$VENV/bin/python")" ]; }
same_wheel() { [ -z "${FLASH_ATTN_WHEEL:-}" ] || [ "$(cat "$flash_attn" 2>/dev/null)" = "$FLASH_ATTN_WHEEL" ]; }

if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && same_python && same_wheel; then exit 0; fi
make_environment
get_uv
install --upgrade pip setuptools==77.0.3 wheel
if [ "$PROFILE" = cpu ]; then install_locked requirements-cpu.lock ", half a minute"; else install_locked requirements.lock " of several GB"; fi
say "this project, editable"
install --no-deps --no-build-isolation -e .
compile_all() { nice -n 19 "$VENV/bin/python" -m compileall -q -j 0 "$VENV/lib" > /dev/null 2>&1 || true; } # a package's templates need not be Python
# Many processes import at once on GPUs: wait for it. Else what comes next, one process for the most part, goes on beside it.
if [ "$PROFILE" = gpu ]; then compile_all; else compile_all & fi
rm -f "$VENV/overrides"
if [ "$PROFILE" = gpu ] && ! install_flash_attn; then
  echo attention=sdpa > "$VENV/overrides" # read by profile.sh: every script passes it on
  say "without flash-attn: runs use attention=sdpa (PyTorch's attention and veRL's fused cross-entropy), slower at long lengths"
fi
echo "$wanted" > "$stamp"
say "done"
