# Everything here starts from a fresh clone and a python3 of version 3.11 or newer.
# `make` alone lists the targets.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
BUILD := $(CURDIR)/build
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JAX_COMPILATION_CACHE_DIR ?= $(BUILD)/jax-cache
JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0.2

# The compilation cache serves the tests only; what is timed compiles for itself.
# One thread of LAPACK per worker: more of them wait for one another in busy loops.
PYTEST = OPENBLAS_NUM_THREADS=1 JAX_COMPILATION_CACHE_DIR="$(JAX_COMPILATION_CACHE_DIR)" \
	JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=$(JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS) \
	$(BIN)/python -m pytest

# The tests compile thousands of small programs and run most of them once: let XLA compile in a
# hurry. A jaxlib that does not know one of these options aborts, so it is asked first.
HURRY = --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false \
	--xla_cpu_parallel_codegen_split_count=1
KNOWN = $(shell XLA_FLAGS="$(HURRY)" $(BIN)/python -c 'import jax; jax.numpy.zeros(1)' 2>/dev/null \
	&& echo "$(HURRY)")

# Neighbors stay with one worker, which has compiled and fitted what they share.
SPREAD = -n $(WORKERS) --dist worksteal

SHELL := bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test reproduce bench gpu lint types docs examples wheel clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# Reinstalled only when pyproject.toml changes: the install is editable.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than 3.11: make PYTHON=python3.12 ..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

install: $(STAMP) ## the virtual environment, with everything for development

demo: $(STAMP) ## the tour of the library
	$(BIN)/python examples/demo.py

test: $(STAMP) ## the tests
	XLA_FLAGS="$(KNOWN) $(XLA_FLAGS)" $(PYTEST) $(SPREAD)

reproduce: $(STAMP) ## the slow tests, and every table in the documentation
	$(PYTEST) $(SPREAD) -m slow
	@set -e; for script in $(filter-out %/experiments.py,$(wildcard tests/reproduce/*.py)); do \
		echo "$$script"; $(BIN)/python "$$script"; done
	$(MAKE) bench

bench: $(STAMP) ## the benchmarks, written to docs/benchmarks.md
	$(BIN)/python tests/benchmarks/run.py

gpu: ## the checks on an accelerator, with the python at hand, not the environment
	PYTHONPATH=. $(PYTHON) tests/gpu/run.py

lint: $(STAMP) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## pyright
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(STAMP) ## the documentation, into build/site
	$(BIN)/mkdocs build --strict

# As many at a time as there are workers; what each printed is shown when it ends. Most of their
# time is compilation, which need not be thorough here either.
examples: $(STAMP) ## every example, with its seconds
	@printf '%s\n' $(sort $(wildcard examples/*.py)) | \
		XLA_FLAGS="$(subst level=0,level=1,$(KNOWN)) $(XLA_FLAGS)" xargs -n 1 -P $(WORKERS) bash -c ' \
		start=$$(date +%s); status=0; \
		said=$$(MPLBACKEND=Agg $(BIN)/python "$$0" 2>&1) || status=255; \
		echo "$$said"; ((status)) && echo "FAILED $$0"; \
		echo "$$(( $$(date +%s) - start )) s  $$0"; exit $$status'

wheel: $(STAMP) ## build the wheel, install it in a clean environment, import it
	rm -rf dist $(BUILD)/wheel-venv
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps -w dist .
	$(PYTHON) -m venv $(BUILD)/wheel-venv
	$(BUILD)/wheel-venv/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl
	$(BUILD)/wheel-venv/bin/python -I -c 'import infer; print(infer.__file__)'

clean: ## remove what was built, the environments included
	rm -rf $(VENV) .venv-newest build dist .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
