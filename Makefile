# `make demo` starts the chat, `make test` runs every test. Both install what they need first.

PYTHON ?= python3
PORT ?= 5000
BROKER ?= $(SSE_BROKER_URL)
VENV := .venv
BIN := $(VENV)/bin
# PYTEST="-k chat -x" narrows `make test`.
PYTEST ?=
# `make bench CASES="fanout burst" PEERS="floor nchan" ROUNDS=3`, or QUICK=1 for a smoke run.
CASES ?=
PEERS ?=
ROUNDS ?= 5
QUICK ?=
# `make fuzz SECONDS=600 SEED=7 TARGETS="links view"`; TRY=123 is one try alone.
SECONDS ?= 60
SEED ?=
TARGETS ?=
TRY ?=

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-fast test-oldest coverage check format fuzz stress bench clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

venv: $(BIN)/.installed-dev ## Create .venv with all that development needs

demo: $(BIN)/.installed-demo ## Start the chat under gunicorn with two sync workers (PORT=5000 BROKER=url)
	@PORT='$(PORT)' SSE_BROKER_URL='$(BROKER)' exec tools/demo $(BIN)/python

test: $(BIN)/.installed-dev ## Run all tests, in real servers and a real browser too (PYTEST="-k name")
	@tools/test $(BIN)/python $(PYTEST)

test-fast: $(BIN)/.installed-dev ## Test what needs no server, process or disk: seconds
	@$(BIN)/python -m pytest -q -m 'not real' --ignore tests/live --numprocesses 2 --dist loadfile $(PYTEST)

test-oldest: $(BIN)/python ## Run the tests with the oldest dependencies that are supported
	@tools/test-oldest '$(PYTHON)' $(PYTEST)

coverage: $(BIN)/.installed-dev ## Print the branch coverage of each room, hub and broker threads included
	@tools/install-test-programs >/dev/null
	@$(BIN)/python -m coverage erase
	@COVERAGE_THREADS=1 $(BIN)/python -m coverage run -m pytest -q --ignore tests/live -p no:xdist $(PYTEST)
	@$(BIN)/python -m coverage combine -q
	@$(BIN)/python -m coverage report

check: $(BIN)/.installed-dev ## Lint, format, types and import layers
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/test_layers.py

format: $(BIN)/.installed-dev ## Put the source into its format and mend what ruff can mend
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

fuzz: $(BIN)/.installed-dev ## Feed every parser made-up input (SECONDS=60 SEED= TARGETS=)
	@PYTHONPATH=tests $(BIN)/python -m fuzz.run --seconds $(SECONDS) \
		$(if $(SEED),--seed $(SEED)) $(if $(TRY),--only $(TRY)) $(TARGETS)

stress: $(BIN)/.installed-dev ## Hold 10,000 streams on one gunicorn sync worker
	$(BIN)/python tools/stress.py

bench: $(BIN)/.installed-bench ## Measure this and its peers side by side (CASES= PEERS= ROUNDS=5 QUICK=1)
	@$(BIN)/python -m bench install
	$(BIN)/python -m bench run --cases $(CASES) --peers $(PEERS) --rounds $(ROUNDS) \
		$(if $(QUICK),--quick --folder build/bench)

clean: ## Remove .venv and everything else that can be made again
	rm -rf $(VENV) .venv-oldest .packages build dist tests/js/node_modules .coverage .coverage.* .hypothesis \
		.import_linter_cache .mypy_cache .pytest_cache .ruff_cache src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps lie inside the environment, so they go when it goes. The install is editable:
# only a change of pyproject.toml asks for a new one.
$(BIN)/.installed-demo: pyproject.toml | $(BIN)/python
	@tools/pip-install $(BIN)/python --editable '.[redis]' 'gunicorn>=23'
	@touch $@

$(BIN)/.installed-dev: pyproject.toml | $(BIN)/python
	@tools/pip-install $(BIN)/python --editable '.[dev]'
	@touch $@ $(BIN)/.installed-demo

$(BIN)/.installed-bench: pyproject.toml | $(BIN)/python
	@tools/pip-install $(BIN)/python --editable '.[bench]'
	@touch $@ $(BIN)/.installed-dev $(BIN)/.installed-demo

$(BIN)/python:
	@tools/make-venv '$(PYTHON)' $(VENV)
