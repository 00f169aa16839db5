#!/usr/bin/env bash
# A model teaches its own base (the embedded example): what train.sh made is served on loopback and answers the training problems; the base
# is trained again, from its right answers alone. self_teach.sh [hydra overrides of both trainings]; docs/teachers.md
set -euo pipefail
cd "$(dirname "$0")/.."
source exp_scripts/profile.sh
[ "$PROFILE" = cpu ] || { echo "error: the embedded example needs the CPU packages: PROFILE=cpu, in a checkout of its own" >&2; exit 2; }
[ -e outputs/luffy/summary.json ] || bash exp_scripts/train.sh "$@"
model=$("$VENV/bin/python" -c 'import json; print(json.load(open("outputs/luffy/summary.json"))["hf_model"])')
"$VENV/bin/python" -m luffy.vllm_cpu serve "$model" --served-model-name luffy --host 127.0.0.1 --port "${PORT:-8471}" --max-model-len 256 \
  --dtype float32 --enforce-eager --no-enable-chunked-prefill --max-num-batched-tokens 4096 > outputs/self_teach_server.log 2>&1 &
trap 'kill $! 2>/dev/null || true' EXIT
"$VENV/bin/python" data/collect_traces.py --problems outputs/tiny/train.parquet --limit 1024 --samples 2 --temperature 1 --max-tokens 64 \
  --teacher "http://127.0.0.1:${PORT:-8471}/v1" --wait 180 --no-think-tags --tokenizer outputs/tiny/model --output outputs/self_teach_traces.parquet
kill $! && wait $! 2>/dev/null || true # its memory is the training's now
bash exp_scripts/train.sh data.train_files=outputs/self_teach_traces.parquet data.val_files=outputs/tiny/heldout.parquet \
  trainer.experiment_name=self_teach "$@"
