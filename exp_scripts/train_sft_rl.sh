#!/usr/bin/env bash
# SFT, then on-policy RL from the SFT model, with GPUs on the problems that SFT has not seen (data/prepare_train_sft_rl.py).
#   SFT_RUN=FOLDER  run folder of the SFT (default outputs/sft); a finished one is used as it is. Hydra overrides are RL's.
set -euo pipefail
cd "$(dirname "$0")/.."
source exp_scripts/profile.sh
sft=${SFT_RUN:-outputs/sft}
case " $* " in
  *" --help "* | *" -h "*) exec cat verl/mix_src/config/help.txt ;;
  *" actor_rollout_ref.model.path="*) echo "error: RL starts from an SFT model: train_sft.sh model.path=MODEL ..., then SFT_RUN=ITS_FOLDER" >&2; exit 2 ;;
  *" dry_run=true "* | *" --cfg "*) [ -f "$sft/summary.json" ] || exec bash exp_scripts/train_sft.sh trainer.default_local_dir="$sft" dry_run=true ;;
esac
[ -f "$sft/summary.json" ] || bash exp_scripts/train_sft.sh trainer.default_local_dir="$sft"
model=$("$VENV/bin/python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["hf_model"])' "$sft/summary.json")
if [ "$PROFILE" = gpu ]; then
  [ -e data/openr1_complement.parquet ] || [[ " $*" == *" data.train_files="* ]] || "$VENV/bin/python" data/prepare_train_sft_rl.py
  set -- data.train_files=data/openr1_complement.parquet "$@"
fi
exec bash exp_scripts/run.sh sft_rl actor_rollout_ref.model.path="$model" "$@"
