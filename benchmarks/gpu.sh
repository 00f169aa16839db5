#!/usr/bin/env bash
# One NVIDIA GPU, random weights, nothing fetched: an update beside veRL's vanilla loss at the shape of Qwen2.5-Math-1.5B (tokens a second,
# MFU, peak memory, and the plan's), then whole steps where vLLM can be imported. About ten minutes.
#   bash benchmarks/gpu.sh [--device cuda|cpu] [--tiny]
# --device cpu --tiny is the same in minutes on a machine without a GPU: whether it runs, not how fast a GPU is.
set -euo pipefail
cd "$(dirname "$0")/.."
device=cuda shape=Qwen2.5-Math-1.5B rows=16 length=4096 micro=2 response=1024 batch=16
while [ $# -gt 0 ]; do
  case $1 in
    --device) device=$2; shift 2 ;;
    --tiny) shape=tiny rows=8 length=256 micro=4 response=64 batch=8; shift ;;
    *) echo "error: unknown option $1 (--device cuda|cpu, --tiny)" >&2; exit 2 ;;
  esac
done
python=${VENV:-.venv}/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" benchmarks/update.py --device "$device" --shape "$shape" --rows "$rows" --length "$length" --micro_rows "$micro" 2> "$work/update.log" ||
  { tail -20 "$work/update.log" >&2; exit 1; }

if ! "$python" -c "from luffy import vllm_cpu; vllm_cpu.prepare(); import vllm" > /dev/null 2>&1; then
  echo "no whole steps: vLLM cannot be imported"
  exit 0
fi
"$python" data/prepare_tiny.py > "$work/data.log" 2>&1 || { tail -20 "$work/data.log" >&2; exit 1; }
"$python" benchmarks/update.py --shape "$shape" --write "$work/model" 2> "$work/model.log"
choice=(profile=gpu attention=sdpa actor_rollout_ref.rollout.tensor_model_parallel_size=1 actor_rollout_ref.rollout.gpu_memory_utilization=0.4)
[ "$device" = cpu ] && choice=(profile=cpu)
"$python" -m verl.mix_src.main_mix_ppo "${choice[@]}" "actor_rollout_ref.model.path=$work/model" trainer.n_gpus_per_node=1 \
  data.train_files=outputs/tiny/train.parquet data.val_files=null data.max_prompt_length=64 data.max_response_length="$response" \
  data.train_batch_size="$batch" trainer.total_training_steps=4 trainer.save_freq=-1 trainer.test_freq=-1 trainer.val_before_train=false \
  luffy.record.every=0 trainer.default_local_dir="$work/run" > "$work/run.log" 2>&1 || { tail -20 "$work/run.log" >&2; exit 1; }
"$python" - "$work/run/metrics.jsonl" << 'END'
import json, statistics, sys

records = [json.loads(line)["data"] for line in open(sys.argv[1])][1:]  # the first step warms up
for name in ("step", "gen", "old_log_prob", "update_actor", "update_weights"):
    if found := [record[f"timing_s/{name}"] for record in records if f"timing_s/{name}" in record]:
        print(f"whole step, {name:15}{statistics.median(found):8.2f} s")
END
