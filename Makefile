# Every target sets up what it needs: a fresh clone has no step before `make test` or `make demo`.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTHONS := $(or $(PYTHON),python3.14 python3.13 python3.12 python3.11 python3)

# Each stamp says that an extra of pyproject.toml, as it stands, is installed.
DEV := $(VENV)/installed-dev
DEMO := $(VENV)/installed-demo

.PHONY: help test mutants test-unit test-kafka test-deploy test-browser test-fallback demo lint format bench load-test simulate soak wheel clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

test: lint test-unit ## lint, types and every test (those with a real Kafka need Java 17 and Maven)
	$(BIN)/pytest --ignore=tests/unit --ignore=tests/contract --ignore=tests/simulation --ignore=tests/benchmarks \
	  --ignore=tests/soak -m "not simulated" $(TEST_ARGS)

test-unit: $(DEV) ## the tests that need neither Java nor a browser, and what they cover of stream, sync and clients
	$(BIN)/coverage run -m pytest tests/unit tests/contract $(TEST_ARGS)
	$(if $(TEST_ARGS),,$(BIN)/coverage report)
	$(BIN)/pytest tests/simulation tests/kafka_behaviour -m "not kafka" $(TEST_ARGS)

test-kafka: $(DEV) ## the tests with a real Kafka
	$(BIN)/pytest tests/integration tests/chaos tests/kafka_behaviour -m "not simulated" $(TEST_ARGS)

test-deploy: $(DEV) ## the tests of image, chart, alerts and workflows (Helm, promtool, actionlint)
	$(BIN)/pytest tests/deploy $(TEST_ARGS)

test-browser: $(DEV) ## the tests of the pages in a real Chromium
	$(BIN)/pytest tests/browser $(TEST_ARGS)

test-fallback: $(DEV) ## every test with an aiohttp that lacks a part, so that requests go through ClientSession
	PYTHONPATH=$(CURDIR)/tests/fallback $(BIN)/pytest --ignore=tests/benchmarks --ignore=tests/soak $(TEST_ARGS)

mutants: $(DEV) ## puts faults into copies of the program: a test has to notice each (MUTANTS_ARGS=--help)
	$(BIN)/python -m tests.mutants $(MUTANTS_ARGS)

demo: $(DEMO) ## the whole program on this machine: broker, both APIs, events, contacts
	$(BIN)/sesamy-mailmojo demo $(DEMO_ARGS)

lint: $(DEV) ## ruff and mypy, as in the tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(DEV) ## what ruff can mend by itself
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(DEV) ## throughput and CPU beside other consumers, on a real Kafka (BENCH_ARGS=--help)
	$(BIN)/python -m tests.benchmarks $(BENCH_ARGS)

load-test: $(DEV) ## a load on three instances and a real Kafka, and a report (LOAD_TEST_ARGS=--help)
	$(BIN)/python -m tests.load_testing $(LOAD_TEST_ARGS)

simulate: $(DEV) ## seeds of the simulation: the whole service on virtual time (SEEDS=100 FIRST=1 SIMULATE_ARGS=--help)
	$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),100) --first $(or $(FIRST),1) $(SIMULATE_ARGS)

soak: $(DEV) ## chaos and simulation in turn, with new seeds until stopped, a line per run (SOAK_ARGS=--help)
	$(BIN)/python -m tests.chaos --simulate 50 $(SOAK_ARGS)

wheel: | $(BIN)/python ## the program and what it needs as wheels in dist/, as in deploy/Dockerfile
	$(PIP) wheel --wheel-dir dist .

clean: ## remove everything that the other targets made
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist deploy/kafka/target

$(DEV): pyproject.toml | $(BIN)/python
	@echo "Installing the program and its development tools into $(VENV) …"
	@$(PIP) install --editable '.[dev]'
	@touch $(DEMO) $@

$(DEMO): pyproject.toml | $(BIN)/python
	@echo "Installing the program into $(VENV) …"
	@$(PIP) install --editable '.[demo]'
	@touch $@

# A candidate counts when it runs: a version manager's shim may stand in PATH for a Python that is not there.
# ensurepip is asked for because Debian and Ubuntu leave it out of the base package.
$(BIN)/python:
	@old=; bare=; \
	for python in $(PYTHONS); do \
	  $$python -c '' 2>/dev/null || continue; \
	  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { old="$$python"; continue; }; \
	  $$python -c 'import ensurepip, venv' 2>/dev/null || { bare="$$python"; continue; }; \
	  echo "Creating $(VENV) with $$($$python --version) …"; \
	  $$python -m venv --clear $(VENV) && exit 0; rm -rf $(VENV); exit 1; \
	done; \
	if [ -n "$$bare" ]; then \
	  echo "$$bare cannot make a virtual environment. On Debian and Ubuntu: sudo apt-get install $$($$bare -c 'import sys; print("python3.%d-venv" % sys.version_info[1])')" >&2; \
	else \
	  echo "Python 3.11 or newer is needed; tried: $(PYTHONS)$${old:+ ($$old is $$($$old --version 2>&1))}. Another one: make PYTHON=/path/to/python3" >&2; \
	fi; \
	exit 1
