# Each target first brings .venv up to date: with uv where it is installed, else with venv and pip. Nothing changed: no work.
#
#   make demo               found a consortium, play the whole story, stay up (HEADLESS=1: end by itself; DEMO_ARGS="--lang zh")
#   make test               all tests (PYTEST_ARGS="-k referral")
#   make check              all that CI runs: format, lint, types, import rules, determinism, spelling, docs, tests
#   make bench              performance as ratios, written to bench/latest.json
#   make env                only set up; the command is then .venv/bin/yilian

.DEFAULT_GOAL := help
.PHONY: help env env-dev demo test check format lint types imports determinism spelling docs coverage bench lock clean
.DELETE_ON_ERROR:
# Two pips in one environment would tear each other's work.
.NOTPARALLEL:
SHELL := /bin/sh

PYTHON ?= python3
BIN := .venv/bin
UV := $(shell command -v uv 2>/dev/null)
TYPED := src tools $(wildcard bench)

ifdef UV
MAKE_VENV = "$(UV)" venv --quiet --clear --python "$$(command -v $(PYTHON))" .venv
INSTALL = "$(UV)" pip install --quiet --python $(BIN)/python
else
MAKE_VENV = $(PYTHON) -m venv --clear .venv || { echo "venv is missing: install it (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
# No byte code for modules that nobody imports: that takes longer than the download.
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
endif

help:
	@sed -n 's/^#   //p' Makefile

env: .venv/.runtime
env-dev: .venv/.dev

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "$(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo missing), yilian needs Python 3.11 or later: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "making .venv with $$($(PYTHON) --version)"
	@$(MAKE_VENV)

# hatchling is in the lock: the editable install draws nothing that has no hash.
.venv/.runtime: pyproject.toml requirements.lock | $(BIN)/python
	@echo "installing what yilian runs on"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || test -n "$(UV)" || $(BIN)/python -m ensurepip >/dev/null
	@$(INSTALL) --require-hashes -r requirements.lock
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.dev: requirements-dev.lock .venv/.runtime
	@echo "installing what the tests and checks need"
	@$(INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@

demo: .venv/.runtime
	$(BIN)/yilian demo $(if $(HEADLESS),--headless) $(DEMO_ARGS)

test: .venv/.dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: format lint types imports determinism spelling test

format: .venv/.dev
	$(BIN)/ruff format --check .

lint: .venv/.dev
	$(BIN)/ruff check .

types: .venv/.dev
	$(BIN)/mypy $(TYPED)

imports: .venv/.dev
	$(BIN)/lint-imports

determinism: .venv/.runtime
	$(BIN)/python tools/check_determinism.py

spelling: .venv/.dev
	$(BIN)/codespell

# A part of `make test`, for whoever only writes prose.
docs: .venv/.dev
	$(BIN)/python -m pytest tests/docs $(PYTEST_ARGS)

coverage: .venv/.dev
	$(BIN)/python -m pytest --cov --cov-report= $(PYTEST_ARGS)
	$(BIN)/coverage report --fail-under=95

bench: .venv/.dev
	$(BIN)/python -m bench $(BENCH_ARGS)

# Resolve again within the ranges of pyproject.toml; no address of a registry gets into the files.
COMPILE = "$(or $(UV),$(BIN)/uv)" pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
          --no-emit-index-url --no-header --no-annotate pyproject.toml
lock:
	$(COMPILE) --group build -o requirements.lock
	$(COMPILE) --group dev -c requirements.lock -o requirements-dev.lock

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage .coverage.* htmlcov build dist
