#!/usr/bin/env bash
# SFT, then on-policy RL from the SFT model, with GPUs on the problems that SFT has not seen (data/prepare_train_sft_rl.py).
#   SFT_RUN=FOLDER  run folder of the SFT (default outputs/sft); a finished one is used as it is. Hydra overrides are RL's.
set -euo pipefail
cd "$(dirname "$0")/.."
source exp_scripts/profile.sh
sft=${SFT_RUN:-outputs/sft}
[ -f "$sft/summary.json" ] || bash exp_scripts/train_sft.sh trainer.default_local_dir="$sft"
model=$("$VENV/bin/python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["hf_model"])' "$sft/summary.json")
if [ "$PROFILE" = gpu ]; then
  [ -e data/openr1_complement.parquet ] || [[ " $*" == *" data.train_files="* ]] || "$VENV/bin/python" data/prepare_train_sft_rl.py
  set -- data.train_files=data/openr1_complement.parquet "$@"
fi
exec bash exp_scripts/run.sh sft_rl actor_rollout_ref.model.path="$model" "$@"
