#!/usr/bin/env bash
# Supervised fine-tuning on the traces, on veRL's own SFT trainer (verl/mix_src/config/sft/). Hydra overrides pass through.
set -euo pipefail
cd "$(dirname "$0")/.."
case " $* " in *" --help "* | *" -h "*) exec cat verl/mix_src/config/sft/help.txt ;; esac
source exp_scripts/profile.sh
source exp_scripts/prepare.sh
prepare model.path "$@"
exec "$VENV/bin/python" -m verl.mix_src.main_sft profile="$PROFILE" $(machine_overrides) "$@"
