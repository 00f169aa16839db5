# Sourced by the scripts. PROFILE is gpu where nvidia-smi finds a GPU, else cpu; VENV is the environment's folder; an explicit one wins.
# machine_overrides: what the set-up found that runs on this machine need (attention=sdpa where flash-attn cannot be had).
if [ -z "${PROFILE:-}" ]; then
  if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then PROFILE=gpu; else PROFILE=cpu; fi
fi
case "$PROFILE" in cpu | gpu) ;; *) echo "error: PROFILE=$PROFILE is unknown; use cpu or gpu" >&2; exit 2 ;; esac
VENV=${VENV:-.venv}
export PROFILE VENV
machine_overrides() { cat "$VENV/overrides" 2>/dev/null || true; }
