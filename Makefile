# gaia2: `make` lists the commands. Each makes its own .venv, once.
#   PYTHON        the interpreter that .venv is made with (3.11 or later)
#   PYTEST_ARGS   options for pytest, for example PYTEST_ARGS="-k mosaic"
#   DEMO_ARGS     options for `gaia2 demo`
#   EDGES_ARGS    options for tests/edges, for example EDGES_ARGS="--cases 16000 --seed 7"
#   ZOO_ARGS      options for recipes/train_mini.py
#   DIFFUSERS     version of diffusers for `make compat`
#   DOCS_ARGS     options for sphinx-build, for example DOCS_ARGS="-D nb_execution_mode=off"
#   MUTANTS_ARGS  options for tests/mutants.py, for example MUTANTS_ARGS="--rooms nn --number 100"

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test test-long compat lint format docs edges kills zoo clean

PYTHON ?= python3
PYTEST_ARGS ?=
DEMO_ARGS ?=
ZOO_ARGS ?=
DIFFUSERS ?= 0.42.1
MUTANTS_ARGS ?=
DOCS_ARGS ?=
EDGES_ARGS ?= --cases 16000

BIN := .venv/bin
PINS := pyproject.toml requirements/constraints.txt

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/core.stamp ## generate a multi-camera driving video with the default model
	$(BIN)/gaia2 demo $(DEMO_ARGS)

test: lint ## linters, types, import layers, then all tests and the examples in the docs
	$(BIN)/pytest -n auto -m "not long" --doctest-modules tests gaia2 $(PYTEST_ARGS)

test-long: .venv/dev.stamp ## the tests that take a minute or more, which make test leaves out
	$(BIN)/pytest -n auto -m long tests $(PYTEST_ARGS)

compat: .venv/dev.stamp ## what leans on diffusers, with another version of it: make compat DIFFUSERS=0.42.1
	$(BIN)/python -m pip install -q --no-deps --upgrade --target .venv/diffusers-$(DIFFUSERS) diffusers==$(DIFFUSERS)
	PYTHONPATH=.venv/diffusers-$(DIFFUSERS):. $(BIN)/pytest tests/test_registration.py tests/schedulers tests/models \
		tests/pipelines $(PYTEST_ARGS)

lint: .venv/dev.stamp ## linters, types and import layers only
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/mypy

format: .venv/dev.stamp ## put the code into the form that the linters ask for
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: .venv/dev.stamp ## build the documentation site into docs/_build/html, with its notebooks executed
	$(BIN)/python -m sphinx -b html -W --keep-going $(DOCS_ARGS) docs docs/_build/html

edges: .venv/dev.stamp ## try thousands of bad inputs, and give the share that is refused clearly
	$(BIN)/python -m tests.edges $(EDGES_ARGS)

# glibc keeps large blocks for the next operation, in place of asking the system for each anew
zoo: export MALLOC_TRIM_THRESHOLD_ = 1000000000
zoo: export MALLOC_MMAP_THRESHOLD_ = 33554432
zoo: .venv/dev.stamp ## train the default model and put it into the package
	$(BIN)/python recipes/train_mini.py --out gaia2/zoo/mini $(ZOO_ARGS)

kills: .venv/dev.stamp ## kill each training ten times at random moments, and compare it with one that is left alone
	GAIA2_KILLS=10 $(BIN)/pytest tests/recipes/test_kills.py

mutants: .venv/dev.stamp ## change the library in small wrong ways and see whether the tests notice
	$(BIN)/python tests/mutants.py $(MUTANTS_ARGS)

clean: ## remove .venv, caches and builds
	rm -rf .venv build dist docs/_build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/core.stamp: $(PINS)
	@bash requirements/install.sh "$(PYTHON)" .
	@touch $@

.venv/dev.stamp: $(PINS)
	@bash requirements/install.sh "$(PYTHON)" ".[dev]"
	@touch .venv/core.stamp $@
