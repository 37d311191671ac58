# Everything happens in .venv, which these targets make themselves: Python 3.11 or newer, git and make are enough.
# PYTHON=python3.12 chooses the interpreter; SECONDS=30 is how long the demo lasts.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test coverage faults bench lint format docs clean

SECONDS ?= 10
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

demo: $(VENV)/.has-demo ## Run the example shop under two server processes, then query what it logged (SECONDS=10)
	@$(BIN)/fapilog demo --seconds $(SECONDS)

# Tests of real processes and their times fail now and then where the machine itself stands still. What failed runs
# once more, alone, and both outcomes are shown; what fails twice has failed.
test: $(VENV)/.has-test ## Run the whole test suite
	@$(BIN)/python -m pytest || { \
	    code=$$?; [ $$code -eq 1 ] || exit $$code; \
	    echo "what failed runs once more, alone:"; \
	    $(BIN)/python -m pytest --last-failed --last-failed-no-failures none; \
	}

coverage: $(VENV)/.has-test ## Run the same and say which lines it left out, in half as much time again
	@$(BIN)/python -m pytest --cov --cov-report=term:skip-covered

faults: $(VENV)/.has-test ## Run every fault, with those that take minutes: kills, forks, servers, full disks
	@$(BIN)/python -m pytest -m "" tests/faults

bench: $(VENV)/.has-bench ## Measure speed and memory against other loggers (about five minutes)
	@$(BIN)/python -m benchmarks

lint: $(VENV)/.has-test $(VENV)/.has-lint ## Check style, types and layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(VENV)/.has-lint ## Format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(VENV)/.has-docs ## Build the documentation into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open site/index.html"

clean: ## Remove what these targets made
	@rm -rf $(VENV) site dist .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache

# One file for each group of dependencies that has been installed; a change of pyproject.toml installs again.
$(VENV)/.has-%: pyproject.toml | $(VENV)/.made
	@echo "installing what 'make $(firstword $(MAKECMDGOALS))' needs ($*) ..."
	@$(PIP) install --editable . --group $*
	@touch $@

$(VENV)/.made:
	@python=; for candidate in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11); do \
	    if command -v $$candidate >/dev/null && $$candidate -c '$(NEW_ENOUGH)' 2>/dev/null; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "fapilog needs Python 3.11 or newer; $(or $(PYTHON),python3) is '$$($(or $(PYTHON),python3) --version 2>&1)'. Say which: make PYTHON=/path/to/python" >&2; \
	    exit 1; \
	fi; \
	echo "making $(VENV) with $$($$python --version)"; \
	rm -rf $(VENV); \
	$$python -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	@$(PIP) install --upgrade 'pip>=25.1'
	@touch $@
