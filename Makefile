# `make help` lists what there is. Every target sets up what it needs.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# Extras that `make setup` installs; a runtime pod needs only `mlserver`.
EXTRAS := dagster,demo,dev,etcd,mlflow,mlserver

.DEFAULT_GOAL := help
.PHONY: help setup setup-airflow demo pipelines test test-fast soak mutants lint format protos bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | sort

setup: $(VENV)/.ready ## create .venv with the `shoal` command and all extras

# Debian's Python needs one more package to put pip into an environment, so the pip that is there does it.
$(VENV)/.ready: pyproject.toml pipelines/pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is missing; install Python 3.11 or pass PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv --without-pip $(VENV)
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --upgrade pip uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[$(EXTRAS)]' --editable ./pipelines
	@touch $@

# Airflow pins much of what it needs, so it has an environment of its own.
setup-airflow: setup .venv-airflow/.ready ## create .venv-airflow, with Airflow and its Shoal provider (400 MB)

.venv-airflow/.ready: pyproject.toml pipelines/airflow_provider_shoal/pyproject.toml
	$(PYTHON) -m venv --without-pip .venv-airflow
	$(BIN)/uv pip install --quiet --python .venv-airflow/bin/python 'apache-airflow>=3.3,<3.4' pytest \
		--editable . --editable ./pipelines/airflow_provider_shoal
	@touch $@

demo: setup ## serve forty real models from two pods, then roll out under load (ARGS=--keep leaves it running)
	$(BIN)/python examples/demo/demo.py $(ARGS)

pipelines: setup ## open the Dagster UI on an embedded mesh; Ctrl-C ends both (ARGS="--port 3001")
	$(BIN)/python -m dagster_shoal up $(ARGS)

test: setup ## run every test; the first time, fetch the tools they need into .tools/ (ARGS="-k name" selects)
	$(BIN)/python -m tools
	$(BIN)/python -m pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder $(ARGS)

# Modules stay compiled, or importing them would be a fifth of the time.
test-fast: setup ## run what starts no server and is not slow, without any tools, in three minutes (ARGS="-k name" selects)
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --fast --numprocesses 2 --dist loadscope --no-loadscope-reorder $(ARGS)

soak: setup ## search at random with new seeds, as long as you like (ARGS="--minutes 60 tests/core")
	$(BIN)/python tests/soak.py $(ARGS)

mutants: setup ## change the core and the gate in small ways, and see whether tests notice (ARGS="--minutes 20 core/loading.py")
	$(BIN)/python tests/mutants.py $(ARGS)

lint: setup ## ruff, mypy --strict (tests: that their calls fit), import-linter, and that generated code is current
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/mypy.ini
	$(BIN)/lint-imports
	$(BIN)/python protos/generate.py --check

format: setup ## let ruff format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

protos: setup ## generate code from protos/
	$(BIN)/python protos/generate.py

bench: setup ## measure, print one table
	$(BIN)/python -m tools shoal-bench-models shoal-bench-load
	$(BIN)/python -m bench $(ARGS)

clean: ## remove all that make has set up, and caches
	rm -rf $(VENV) .venv-airflow .tools .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
