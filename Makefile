# make setup: the environment with locked packages.  make test: all tests, in an environment of the CPU set; setting up what is missing.
# make rehearsal: the README's way to a run on GPUs, command by command, on this machine's CPU.
# make journeys: every test of several real runs (the rehearsal, own data, two machines, two runs at once).  make lock: both lock files anew.
.PHONY: setup test rehearsal journeys lock

# A GPU node's .venv holds the GPU set: the tests get an environment of their own beside it.
TEST_VENV := $(if $(filter %gpu,$(firstword $(shell cut -d' ' -f3 .venv/.installed 2>/dev/null))),.venv-cpu,.venv)

setup:
	bash exp_scripts/setup.sh

test rehearsal journeys: export PROFILE := cpu
test rehearsal journeys: export VENV := $(TEST_VENV)
test:
	bash exp_scripts/setup.sh
	$(TEST_VENV)/bin/ruff check .
	$(TEST_VENV)/bin/ruff format --check .
	OMP_NUM_THREADS=1 $(TEST_VENV)/bin/python -m pytest -n 2 --dist loadfile -m "not integration and not journey"
	$(TEST_VENV)/bin/python -m pytest -m "integration and not journey"

rehearsal:
	bash exp_scripts/setup.sh
	$(TEST_VENV)/bin/python -m pytest -v -m "" tests/test_rehearsal_overlay.py tests/test_rehearsal.py

journeys:
	bash exp_scripts/setup.sh
	$(TEST_VENV)/bin/python -m pytest -v -m journey

lock:
	bash exp_scripts/lock.sh
