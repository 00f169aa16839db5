#!/usr/bin/env bash
# Set up what is missing, then train: run.sh EXPERIMENT [hydra overrides]. The experiments are in verl/mix_src/config/experiment/.
set -euo pipefail
cd "$(dirname "$0")/.."
case " $* " in *" --help "* | *" -h "*) exec cat verl/mix_src/config/help.txt ;; esac
source exp_scripts/profile.sh
source exp_scripts/prepare.sh
experiment=$1
shift
prepare actor_rollout_ref.model.path "$@"
exec "$VENV/bin/python" -m verl.mix_src.main_mix_ppo profile="$PROFILE" experiment="$experiment" $(machine_overrides) "$@"
