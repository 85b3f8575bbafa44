# zcplatform: everything runs from .venv at the root. `make help` lists the targets.
#
# Without make or uv, plain pip does the same:
#   python3 -m venv .venv
#   .venv/bin/pip install --require-hashes -r requirements-dev.lock
#   .venv/bin/pip install --no-deps --no-build-isolation -e .

PYTHON ?= python3
UV_VERSION := 0.13.8
VENV := .venv
BIN := $(VENV)/bin
# Tests wait more than they compute: more workers than cores, but no more than memory and the engine bear.
WORKERS ?= $(shell n=$$(nproc); echo $$((n * 3 < 8 ? n * 3 : 8)))
UV := VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv
INSTALL_PROJECT := $(UV) pip install --quiet --no-deps --no-build-isolation --editable .
# Both are compiled now, not at each start: where the code belongs to another user, or PYTHONDONTWRITEBYTECODE is set, every
# process would compile all of it anew, which takes longer than what most commands do.
SYNC := $(UV) pip sync --quiet --compile-bytecode
COMPILE_PROJECT := $(BIN)/python -m compileall -q zcplatform audit accounts vault tenants backups monitoring
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	--extra caddy --extra postgres --extra redis --group build

# Compiling every module anew takes each process two thirds of its start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install install-dev demo test test-all lint screenshots bench chaos lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.run ## what runs the platform and its demo, from requirements.lock
	@$(COMPILE_PROJECT)

install-dev: $(VENV)/.dev ## what runs the tests as well, from requirements-dev.lock
	@$(COMPILE_PROJECT)

demo: $(VENV)/.run ## a working platform in one command: [RUNTIME=process|docker] [CHECK=1]
	@$(COMPILE_PROJECT)
	@$(BIN)/python manage.py demo $(if $(RUNTIME),--runtime $(RUNTIME)) $(if $(filter-out 0,$(CHECK)),--check)

test: $(VENV)/.dev ## the test suite: [ARGS="tests/vault -k rotate"] [WORKERS=n, 0: no workers]
	$(BIN)/pytest --numprocesses $(WORKERS) $(ARGS)

test-all: $(VENV)/.dev ## the suite with all that is slow and every cell of the fault matrix: [ARGS=...] [WORKERS=n]
	ZC_SLOW=1 ZC_CELLS=all $(BIN)/pytest --numprocesses $(WORKERS) $(ARGS)

lint: $(VENV)/.dev ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .

screenshots: $(VENV)/.dev ## pictures of every page, into docs/img/pages/
	$(BIN)/python -m tests.browser.shots

bench: $(VENV)/.dev ## what, measured, target, peer: [ONLY=name] [SHORT=1: does it all run?]
	$(BIN)/python -m tests.bench $(if $(ONLY),--only $(ONLY)) $(if $(filter-out 0,$(SHORT)),--short)

chaos: $(VENV)/.dev ## a random machine breaks a platform for 2,000 steps: [SEED=n] [STEPS=n]
	$(BIN)/python -m tests.faults.chaos $(if $(SEED),--seed $(SEED)) $(if $(STEPS),--steps $(STEPS))

lock: $(VENV)/.uv ## compile both locks from pyproject.toml; UPGRADE=1 takes newer versions
	$(COMPILE) $(if $(filter-out 0,$(UPGRADE)),--upgrade) --output-file requirements.lock pyproject.toml
	$(COMPILE) $(if $(filter-out 0,$(UPGRADE)),--upgrade) --group dev --output-file requirements-dev.lock pyproject.toml

clean: ## remove the environment and what tools left behind; data/ stays
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the environment: a stamp per stage, so that a second call has nothing to do. What it tells goes to standard error:
# the output of `make demo CHECK=1` is one JSON object, the first time too ----------------------------------------------

$(VENV)/.uv: Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "zcplatform needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) has no venv module. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "making $(VENV)" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

# The development lock holds all of the other one, so an environment made for the tests also runs the demo.
$(VENV)/.dev: $(VENV)/.uv requirements-dev.lock pyproject.toml
	@echo "installing requirements-dev.lock" >&2
	@$(SYNC) requirements-dev.lock
	@$(INSTALL_PROJECT)
	@touch $(VENV)/.run $@

$(VENV)/.run: $(VENV)/.uv requirements.lock pyproject.toml
	@echo "installing requirements.lock" >&2
	@$(SYNC) requirements.lock
	@$(INSTALL_PROJECT)
	@rm -f $(VENV)/.dev
	@touch $@
