# Two commands matter: `make demo` and `make test`. Each sets up its own .venv from nothing.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The release that the figures in this repository were measured with.
TORCH ?= torch==2.13.0
RUN ?= runs/demo

.DEFAULT_GOAL := help
.PHONY: help demo test test-cluster lint bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# torch goes in first: with the pinned release there, nothing else pulls another build of it.
$(BIN)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"Python {v[0]}.{v[1]} is too old; install 3.11 or newer, or name one: make PYTHON=python3.11")'
	@echo "Setting up $(VENV): a few minutes, once."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(BIN)/.developed: $(BIN)/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(BIN)/.installed ## the whole pipeline on the shipped miniature, in minutes
	@$(BIN)/lorastyle demo --out $(RUN)

# Tests that start a Ray want the cores for themselves; the others share them, a file at a time.
test: lint ## lint, types, import rules and the test suite
	@$(BIN)/python -m pytest -m 'not ray and not cluster' --numprocesses auto --dist loadfile
	@$(BIN)/python -m pytest -m 'ray and not cluster'

test-cluster: $(BIN)/.developed ## clusters on this machine, whose parts are killed
	@$(BIN)/python -m pytest -m cluster

lint: $(BIN)/.developed ## style, types and import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(BIN)/.developed ## our PCA beside its peers: ten minutes, 1.6 GB of disk, 12 GB of memory
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@$(BIN)/python -m benchmarks.pca

clean: ## remove the virtual environment and caches, never a run
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
