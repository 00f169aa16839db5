# make setup: the environment with locked packages.  make test: format, then all tests, in an environment of the CPU set, setting up what is missing.
# make rehearsal: the README's way to a run on GPUs, command by command, on this machine's CPU.
# make lock: both lock files anew.
.PHONY: setup test rehearsal lock

# A GPU node's .venv holds the GPU set: the tests get an environment of their own beside it.
TEST_VENV := $(if $(filter %gpu,$(firstword $(shell cut -d' ' -f3 .venv/.installed 2>/dev/null))),.venv-cpu,.venv)

setup:
	bash exp_scripts/setup.sh

test rehearsal: export PROFILE := cpu
test rehearsal: export VENV := $(TEST_VENV)
test:
	bash exp_scripts/setup.sh
	$(TEST_VENV)/bin/ruff check .
	$(TEST_VENV)/bin/ruff format --check .
	OMP_NUM_THREADS=1 $(TEST_VENV)/bin/python -m pytest -n 2 --dist loadfile -m "not integration"
	$(TEST_VENV)/bin/python -m pytest -m integration

rehearsal:
	bash exp_scripts/setup.sh
	$(TEST_VENV)/bin/python -m pytest -v tests/test_rehearsal_overlay.py tests/test_rehearsal.py

lock:
	bash exp_scripts/lock.sh
