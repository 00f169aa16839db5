# make setup: the environment with locked packages.  make test: all tests, in an environment of the CPU set; setting up what is missing.
# make lock: both lock files anew.
.PHONY: setup test lock

# A GPU node's .venv holds the GPU set: the tests get an environment of their own beside it.
TEST_VENV := $(if $(filter %gpu,$(firstword $(shell cut -d' ' -f3 .venv/.installed 2>/dev/null))),.venv-cpu,.venv)

setup:
	bash exp_scripts/setup.sh

test: export PROFILE := cpu
test: export VENV := $(TEST_VENV)
test:
	bash exp_scripts/setup.sh
	$(TEST_VENV)/bin/python -m pytest

lock:
	bash exp_scripts/lock.sh
