#!/usr/bin/env bash
# One setting of LUFFY varied on the embedded example: ablation.sh gamma|n_demonstrations|prefix|on_demand|clip
#   [--seeds 0 1 2] [--steps N] [--dry_run] [--output_dir outputs/ablations] [--document FILE]. Started again, it goes on where it was.
set -euo pipefail
cd "$(dirname "$0")/.."
source exp_scripts/profile.sh
[ "$PROFILE" = cpu ] || { echo "error: the embedded example needs the CPU packages: PROFILE=cpu, in a checkout of its own" >&2; exit 2; }
bash exp_scripts/setup.sh
exec "$VENV/bin/python" -m miniature.comparison ablation "$@"
