# make setup: the environment with locked packages.  make test: format and types, then all tests, in an environment of the CPU set, setting up what is missing.
# make quick: of these, all that starts no engine.
# make rehearsal: the README's way to a run on GPUs, command by command, on this machine's CPU.
# make golden: what a user sees of this checkout (prepared files, reports, flags, error lines, verdicts), beside tests/golden.
# make bench: every benchmark's short form on this machine's CPU, into docs/performance.md (under 20 minutes).
# make lock: both lock files anew.
# make doctor: would a run start here?
# make soak: faults injected into whole runs, an hour and more (SOAK_STEPS=300 SOAK_EVERY=20).
.PHONY: setup checks quick test rehearsal golden lock soak doctor bench

# A GPU node's .venv holds the GPU set: the tests get an environment of their own beside it.
TEST_VENV := $(if $(filter %gpu,$(firstword $(shell cut -d' ' -f3 .venv/.installed 2>/dev/null))),.venv-cpu,.venv)

setup:
	bash exp_scripts/setup.sh

checks quick test rehearsal golden soak bench: export PROFILE := cpu
checks quick test rehearsal golden soak bench: export VENV := $(TEST_VENV)
# Of several processes on a core, the threads of one would wait for each other.
quick test rehearsal soak: export OMP_NUM_THREADS := 1
checks:
	bash exp_scripts/setup.sh
	$(TEST_VENV)/bin/ruff check .
	$(TEST_VENV)/bin/ruff format --check .
	$(TEST_VENV)/bin/mypy

quick: checks
	$(TEST_VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not integration and not alone and not soak"

test: checks
	$(TEST_VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not alone and not soak"
	$(TEST_VENV)/bin/python -m pytest -m "alone and not soak"

rehearsal:
	bash exp_scripts/setup.sh
	$(TEST_VENV)/bin/python -m pytest -v tests/test_rehearsal_overlay.py tests/test_rehearsal.py

doctor:
	.venv/bin/python -m verl.mix_src.doctor

soak:
	bash exp_scripts/setup.sh
	$(TEST_VENV)/bin/python -m pytest -s -m soak tests/test_soak.py tests/test_bad_numbers.py tests/test_nodes.py tests/test_teachers_engine.py tests/test_rewards_adversary.py

golden:
	bash exp_scripts/setup.sh
	$(TEST_VENV)/bin/python tests/golden.py outputs/golden
	diff -r tests/golden outputs/golden

bench:
	bash exp_scripts/setup.sh
	$(TEST_VENV)/bin/python data/prepare_tiny.py
	$(TEST_VENV)/bin/python benchmarks/bench.py

lock:
	bash exp_scripts/lock.sh
