#!/usr/bin/env bash
# Methods on the embedded example, side by side, and one report: compare.sh [--set short|main|regimes|all] [--part I/N] [--steps N]
#   [--dry_run] [--output_dir outputs/compare] [--document docs/miniature.md]. Started again, it goes on where it was.
#   METHODS="luffy hpt" | all, REGIMES="main long", SEEDS="0 1 2": the same as --methods, --regimes, --seeds
set -euo pipefail
cd "$(dirname "$0")/.."
source exp_scripts/profile.sh
[ "$PROFILE" = cpu ] || { echo "error: the embedded example needs the CPU packages: PROFILE=cpu, in a checkout of its own" >&2; exit 2; }
bash exp_scripts/setup.sh
exec "$VENV/bin/python" -m miniature.comparison run ${METHODS:+--methods $METHODS} ${REGIMES:+--regimes $REGIMES} \
  ${SEEDS:+--seeds $SEEDS} "$@"
