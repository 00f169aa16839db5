#!/usr/bin/env bash
# Which method for your own model and data: a short comparison at equal budget, which ends with a recommendation and its command.
#   pilot.sh --model MODEL --train FILE --heldout FILE [--heldout2 FILE] [--methods luffy hpt ...] [--budget 2h] [--dry-run]
#   --profile cpu|gpu is this machine's; all flags: --help. Started again, it goes on where it was (docs/pilot.md).
set -euo pipefail
cd "$(dirname "$0")/.."
case " $* " in *" --profile cpu "* | *" --profile=cpu "*) PROFILE=cpu ;; *" --profile gpu "* | *" --profile=gpu "*) PROFILE=gpu ;; esac
source exp_scripts/profile.sh
case " $* " in *" --dry-run "* | *" --dry_run "* | *" --help "*) [ -x "$VENV/bin/python" ] || bash exp_scripts/setup.sh ;; *) bash exp_scripts/setup.sh ;; esac
case " $* " in *" --profile"*) ;; *) set -- --profile "$PROFILE" "$@" ;; esac
machine=$(machine_overrides) # attention=sdpa where flash-attn cannot be had
exec "$VENV/bin/python" -m miniature.pilot "$@" ${machine:+--machine-overrides $machine}
