#!/usr/bin/env bash
# All methods on the embedded example, side by side, and one report: compare.sh [--part short|main|regimes|all] [--seeds 0 1 2]
#   [--steps N] [--dry_run] [--output_dir outputs/compare] [--document docs/miniature.md]. Started again, it goes on where it was.
set -euo pipefail
cd "$(dirname "$0")/.."
source exp_scripts/profile.sh
[ "$PROFILE" = cpu ] || { echo "error: the embedded example needs the CPU packages: PROFILE=cpu, in a checkout of its own" >&2; exit 2; }
bash exp_scripts/setup.sh
exec "$VENV/bin/python" -m luffy.comparison run "$@"
