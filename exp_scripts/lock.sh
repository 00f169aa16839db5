#!/usr/bin/env bash
# Write both locks anew from requirements.txt and requirements-cpu.txt (with `uv`, in an environment of its own). Pins that still
# fit stay; `lock.sh --upgrade` takes the newest. Further arguments go to `uv pip compile`.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"${PYTHON:-python3}" -m venv "$tools"
"$tools/bin/python" -m pip --disable-pip-version-check install -qq uv==0.13.9

lock() { # lock DIRECT LOCK [arguments]: resolved for Python 3.11, then the same pins for 3.12
  local compile=("$tools/bin/uv" pip compile --quiet --no-annotate --no-header --python-platform x86_64-manylinux_2_34)
  sed -E '/^flash-attn/d; s/ *#.*//' "$1" > "$tools/direct.txt"
  "${compile[@]}" --python-version 3.11 "$tools/direct.txt" -o "$2" "${@:3}" > /dev/null
  "${compile[@]}" --python-version 3.12 "$tools/direct.txt" -c "$2" "${@:3}" -o "$tools/newest.txt" > /dev/null &&
    diff "$2" "$tools/newest.txt" || echo "warning: $2 was not seen to fit Python 3.12, see above" >&2
  echo "$2: $(wc -l < "$2") packages"
}
without_cuda=()
for package in torchvision torchaudio torchcodec triton; do without_cuda+=(--no-emit-package "$package"); done
lock requirements.txt requirements.lock "$@"
torch=(--index https://download.pytorch.org/whl/cpu --index-strategy unsafe-best-match)
[ -z "${PIP_FIND_LINKS:-}" ] || torch=(--find-links "$PIP_FIND_LINKS") # a folder that holds the wheel
lock requirements-cpu.txt requirements-cpu.lock "${torch[@]}" "${without_cuda[@]}" "$@"
