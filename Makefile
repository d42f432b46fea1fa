# Muskox: the commands of this repository. `make` alone lists them.
#
# They need Python 3.11 or newer and nothing else: `run` and `test` make their own .venv. Say
# PYTHON=... to choose the Python, ARGS=... to hand something on to pytest or to the benchmark.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help setup run test check format lint types bench clean FORCE

PORT ?= 8000
ARGS ?=
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

VENV := .venv
PY := $(VENV)/bin/python

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(VENV)/.development ## Make the environment for development (.venv) and nothing more
	@echo "$(VENV) is ready"

run: $(VENV)/.runtime ## Start the notifier: service, worker and inbox (PORT=8000, MUSKOX_URL=...)
	@exec $(PY) -m muskox.apps.notifier --port $(PORT) $(ARGS)

test: $(VENV)/.development ## Run all tests, on all cores
	$(PY) -m pytest -n auto $(ARGS)

check: lint types ## Before each commit: format, lint, types, architecture and the fast tests
	$(PY) -m pytest -n auto -m "not slow" $(ARGS)

format: $(VENV)/.development ## Format the code and mend what the linter can mend
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

lint: $(VENV)/.development ## Check format, style and that uv.lock fits pyproject.toml
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	@uv=$$($(call working_uv,uv $(VENV)/bin/uv)); [ -z "$$uv" ] || $$uv lock --check --quiet

types: $(VENV)/.development ## Check the types
	$(PY) -m mypy src $(wildcard tests/typing)

bench: $(VENV)/.development ## Run the benchmark (ARGS="drain --store sqlite")
	$(PY) -m bench $(ARGS)

clean: ## Remove the environment, the caches and what was built
	rm -rf $(VENV) dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests bench examples -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# The environment. Three files in .venv say how far it has come:
#   .made         there is a Python in it, and the folder has not moved since
#   .runtime      what `run` needs is installed
#   .development  everything is installed (and so what `run` needs)
# While packages are being installed, .made is away. So an environment that was killed half-way, one
# that was moved and one whose Python has gone all look alike: not made, and it is made from nothing.

unexport VIRTUAL_ENV
export UV_PROJECT_ENVIRONMENT := $(VENV)

# For the shell: prints the first of these uvs that works. One that does not know the option is too
# old for us, and one that a version manager only pretends to have does not run at all.
working_uv = for uv in $(1); do $$uv sync --no-default-groups --help >/dev/null 2>&1 && echo $$uv && break; done

MADE_HERE := $(shell $(PY) -c '' 2>/dev/null && grep -sqxF '$(CURDIR)' $(VENV)/.made && echo yes)

$(VENV)/.made: $(if $(MADE_HERE),,FORCE)
	@rm -rf $(VENV)
	@uv=$$($(call working_uv,uv)); python="$(PYTHON)"; \
	if [ -n "$$uv" ]; then \
		$$uv venv --quiet $${python:+--python "$$python"} $(VENV); \
	elif [ -z "$$python" ]; then \
		echo "Muskox needs Python 3.11 or newer and found none; install it, or say PYTHON=/path/to/python" >&2; exit 1; \
	else \
		$$python -m venv $(VENV) || { echo "$$python cannot make environments; on Debian: apt install python3-venv" >&2; exit 1; }; \
	fi
	@echo '$(CURDIR)' > $@

# A comma would end the argument of a call.
RUNTIME := .[notifier,redis,postgres]

$(VENV)/.runtime: pyproject.toml uv.lock $(VENV)/.made
	$(call install,--inexact --no-default-groups --extra notifier --extra redis --extra postgres,--editable '$(RUNTIME)')
	@touch $@

$(VENV)/.development: pyproject.toml uv.lock $(VENV)/.made
	$(call install,--all-extras,--editable '.[all]' --group dev)
	@touch $(VENV)/.runtime $@

# install OPTIONS-OF-UV-SYNC, ARGUMENTS-OF-PIP. Brings uv from PyPI where there is none; where that
# fails too, pip installs alone. A failure that we hear of (no network, say) leaves the old
# environment in use; being killed does not.
define install
	@mv $(VENV)/.made $(VENV)/.making
	@uv=$$($(call working_uv,uv $(VENV)/bin/uv)); pip="$(PY) -m pip --quiet --disable-pip-version-check"; \
	if [ -z "$$uv" ]; then \
		echo "Getting uv from PyPI into $(VENV)"; \
		$$pip --version >/dev/null 2>&1 || $(PY) -m ensurepip >/dev/null; \
		$$pip install uv || echo "No uv to be had: pip installs alone, and not what uv.lock says" >&2; \
		uv=$$($(call working_uv,$(VENV)/bin/uv)); \
	fi; \
	echo "Installing into $(VENV)"; \
	if [ -n "$$uv" ]; then $$uv sync --frozen --python $(PY) $(1); \
	else $$pip install --upgrade 'pip>=25.1' && $$pip install $(2); \
	fi || { mv $(VENV)/.making $(VENV)/.made; exit 1; }
	@mv $(VENV)/.making $(VENV)/.made
endef

FORCE:
