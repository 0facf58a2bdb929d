# Each target works alone on a machine with make and Python 3.11 or later: what it needs is installed into
# .venv first.  `make help` lists them.

VENV := .venv
JOBS := $(shell nproc 2>/dev/null || echo 2)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# The first of these that runs, can make a virtual environment, and is of a version that Numba and the pinned
# PyTorch are published for; PYTHON=... overrides.  (To look for them on the PATH would not do: pyenv leaves
# a python3.13 there that only says that it is not set up.)
PYTHONS := python3 python3.13 python3.12 python3.11 python3.14 python
PYTHON = $(shell for p in $(PYTHONS); do $$p -c 'import sys, ensurepip; \
	sys.exit(not (3, 11) <= sys.version_info < (3, 15))' >/dev/null 2>&1 && echo $$p && break; done)

# `make demo` compares with PyTorch, which is the larger part of the download: `make demo TORCH=` leaves it
# out, and the demo says so.  One version and no range: the newest is not what the results were measured with.
TORCH := torch==2.13.0

# An environment of its own, and the tests that need neither PyTorch nor Dask
OLDEST := build/oldest
COMPATIBLE := $(addprefix tests/test_,vjp.py jvp.py forward.py log_softmax.py entropy.py segments.py layout.py)
# A folder with the oldest Triton that compiles the kernels for GPUs, that of PyTorch 2.11
OLDEST_TRITON := build/triton36
# One with the oldest JAX that pyproject.toml allows
OLDEST_JAX := build/jax050

.DEFAULT_GOAL := help
.PHONY: help demo demo-distributed test test-compat check bench grid readme docs clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

demo: $(VENV)/demo ## the main job: the experiment on softmax gradients, then a network that uses them
	$(BIN)/softgrad reproduce
	$(BIN)/python examples/digits_attention.py

demo-distributed: $(VENV)/demo ## two networks with a softmax that is divided among four processes; both need PyTorch
	$(BIN)/python examples/vocabulary_parallel.py
	$(BIN)/python examples/sequence_parallel_attention.py

test: $(VENV)/dev ## the tests, and the examples in the docstrings, a process for each core
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

test-compat: $(OLDEST)/ready $(OLDEST_TRITON)/ready $(OLDEST_JAX)/ready $(VENV)/dev ## tests with the oldest NumPy, Numba and ml_dtypes that pyproject.toml allows, without PyTorch; kernels by the oldest Triton; the oldest JAX
	$(OLDEST)/bin/python -m pytest -q -n $(JOBS) $(COMPATIBLE) \
	  --deselect tests/test_log_softmax.py::test_the_formulas_are_right # NumPy 2.0's exp has more than an ulp
	OLDEST_TRITON=$(OLDEST_TRITON) $(BIN)/python -m pytest -q -rs -n $(JOBS) tests/test_gpu.py -k oldest
	PYTHONPATH=$(OLDEST_JAX) $(BIN)/python -m pytest -q -n $(JOBS) tests/test_jax.py

check: $(VENV)/dev ## lint, format, types, which way the imports run, and how long files are
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/file_sizes.py

bench: $(VENV)/dev ## all libraries side by side: a table here, plots and a page in build/bench, in five minutes
	@mkdir -p build/bench
	$(BIN)/softgrad bench --json build/bench/bench.json --plot build/bench/bench.svg \
	  --html build/bench/bench.html
	@echo "The page is build/bench/bench.html, the plots bench.svg beside it, the figures bench.json."

grid: $(VENV)/dev ## measure every bound of benchmarks/bounds.py on an idle machine, in about ten minutes
	$(BIN)/python benchmarks/grid.py

readme: $(VENV)/dev ## write the tables of README.md and docs/ from benchmarks/results
	$(BIN)/python benchmarks/readme.py

docs: $(VENV)/dev ## so far the documentation is the docstrings: runs their examples
	$(BIN)/python -m pytest src/softgrad

clean: ## remove the environment and everything built or cached
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# --- what is installed; each stamp is older than pyproject.toml when that asks for something else ---------

$(BIN)/pip:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 to 3.14 that can make a virtual environment (on Debian \
	and Ubuntu it needs python3-venv). Install one, or name yours: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip

$(VENV)/demo: pyproject.toml | $(BIN)/pip
	@echo "Installing softgrad and what the demo needs into $(VENV)"
	@test -z "$(TORCH)" || $(PIP) "$(TORCH)" || echo "$(TORCH) could not be installed: the demo goes on without it"
	$(PIP) -e '.[cli,plot,examples]'
	@touch $@

$(VENV)/dev: pyproject.toml | $(BIN)/pip
	@echo "Installing softgrad and what its development needs into $(VENV)"
	$(PIP) -e '.[dev]'
	@touch $@

$(OLDEST)/ready: pyproject.toml
	@test -n "$(PYTHON)"
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check -e . \
	  'numpy==2.0.*' 'numba==0.62.*' 'ml_dtypes==0.5.0' scipy pytest pytest-xdist hypothesis mpmath
	@touch $@

# Without it the tests are skipped: there is no Triton but for Linux, and a registry may be out of reach.
$(OLDEST_JAX)/ready: pyproject.toml | $(BIN)/pip
	@mkdir -p $(@D)
	@$(PIP) --upgrade --no-deps --target $(@D) 'jax==0.5.0' 'jaxlib==0.5.0'
	@touch $@

$(OLDEST_TRITON)/ready: pyproject.toml | $(BIN)/pip
	@mkdir -p $(@D)
	@$(PIP) --upgrade --no-deps --target $(@D) 'triton==3.6.*' && touch $@ || \
	  echo "Triton 3.6 could not be installed into $(@D): what needs it is skipped"
