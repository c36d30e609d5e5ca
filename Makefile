# make demo       find objects in photographs that come with scikit-image and matplotlib; images go to demo/
# make test       run every test (make test ARGS="-m 'not slow'": the quick ones; ARGS="-n 0": in one process)
# make lint       ruff and mypy
# make benchmark  run the measurements in benchmarks/ that need no data set (others: ONLY="yolox_peer" ARGS="...")
# make docs       build the docs site into site/
# make clean      remove the environment and the caches
#
# Each makes the virtual environment .venv first, once; PYTHON=/path/to/python chooses its Python.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=
ONLY ?= busy_machine evaluation evaluation_intervals pipeline report selective_search training_shared training_speed

export PYTHON

.PHONY: demo test lint benchmark docs clean environment
.DEFAULT_GOAL := demo

environment: $(READY)

$(READY): setup.py pyproject.toml tools/environment.sh
	@sh tools/environment.sh $(VENV)
	@touch $@

demo: $(READY)
	@$(BIN)/python tools/demo.py

test: $(READY)
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 $(ARGS)

lint: $(READY)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

benchmark: $(READY)
	@set -e; for name in $(ONLY); do \
		echo "== $$name"; $(BIN)/python "benchmarks/$$name.py" $(ARGS); \
	done

docs: $(VENV)/.docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "open site/index.html"

$(VENV)/.docs: $(READY)
	@$(BIN)/python -m pip install --quiet --editable ".[docs]"
	@touch $@

clean:
	rm -rf $(VENV) build site .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find proposals detector tests tools benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
