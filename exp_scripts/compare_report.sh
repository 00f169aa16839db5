#!/usr/bin/env bash
# The report of the runs that compare.sh has finished, written again: compare_report.sh [flags of compare.sh]
set -euo pipefail
cd "$(dirname "$0")/.."
source exp_scripts/profile.sh
exec "$VENV/bin/python" -m miniature.comparison report ${METHODS:+--methods $METHODS} ${REGIMES:+--regimes $REGIMES} \
  ${SEEDS:+--seeds $SEEDS} "$@"
