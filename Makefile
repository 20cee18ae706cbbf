# Everything a newcomer runs. `make help` lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
BIN_SUPPLY := .venv-supply/bin
LOCKS := pipeline server container plan supply
SERVER_BIN := .venv-server/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
# Idle threads that look for more work slow each other down many times over where something else uses the cores too.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help setup repro test lint serve bench bench-gpu verify kill fuzz fuzz-readers hostile hostile-large mlflow licences sbom audit
.PHONY: lock params clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: .venv/.ready .venv-server/.ready ## the two environments, from hash-locked requirements (.venv, .venv-server)

.venv/.ready: requirements/pipeline.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "Python 3.11 is needed; name one with: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/pipeline.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv-server/.ready: requirements/server.lock pyproject.toml
	$(PYTHON) -m venv .venv-server
	$(SERVER_BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/server.lock
	$(SERVER_BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv-supply/.ready: requirements/supply.lock
	$(PYTHON) -m venv .venv-supply
	$(BIN_SUPPLY)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/supply.lock
	@touch $@

repro: setup ## run the nine stages on the embedded data (or what params.yaml says) and print what came out
	@python -m cairn.killed
	@dvc repro
	@cairn backfill
	@cairn summary

test: setup lint ## ruff, mypy, the import walls, and every test
	@pytest

lint: setup
	@ruff format --check .
	@ruff check .
	@mypy
	@lint-imports

serve: setup ## start a Triton server on what `make repro` exported; ask it with `cairn query PHOTO...`
	@python -m cairn.serving.server $(OPTIONS)

bench: setup ## the benchmarks of docs/benchmarks.md
	@for file in benchmarks/bench_*.py; do python $$file; done

bench-gpu: setup ## how well training, embedding and searching use a GPU, in under ten minutes; names what is missing
	@python benchmarks/bench_gpu.py $(OPTIONS)

verify: setup ## run the pipeline in two clones, the second elsewhere in every way, and compare all bytes and answers
	@PYTHONPATH=tests python -m whole.verify $(OPTIONS)

kill: setup ## kill `dvc repro` at 60 moments, fill its disk, cut its network; each time one more run must mend it
	@PYTHONPATH=tests python -m whole.kill $(OPTIONS)

fuzz: setup ## 20,000 malformed requests, half of them to warm up, to a real server on what `make repro` exported
	@python benchmarks/fuzz_server.py

fuzz-readers: setup ## 10,000 changed files for each of the readers of shards, manifests and params
	@python benchmarks/fuzz_readers.py

hostile: setup ## broken and harmful photos, tars, tables and params on the real stages; writes the table of docs/hostile-data.md
	@python tests/hostile/run.py --write

hostile-large: setup ## a label file of ten million rows, odd ones among them
	@python tests/hostile/large.py

mlflow: setup ## the MLflow page, on http://127.0.0.1:5000
	@mlflow ui --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --port 5000

params: setup ## compose params.yaml from conf/
	@python -m cairn.composing

licences: setup .venv-supply/.ready ## the licences of all locked packages, into docs/licences.md
	@python requirements/licences.py

sbom: .venv-supply/.ready ## a CycloneDX bill of materials of each lock, in build/sbom/
	@mkdir -p build/sbom
	@for lock in $(LOCKS); do \
		$(BIN_SUPPLY)/python -W ignore -m cyclonedx_py requirements --pyproject pyproject.toml --output-reproducible \
			--output-format JSON --output-file build/sbom/$$lock.cdx.json requirements/$$lock.lock && \
		echo "build/sbom/$$lock.cdx.json" || exit 1; done

audit: .venv-supply/.ready ## known vulnerabilities of all locked packages; needs an advisory service
	@$(BIN_SUPPLY)/python requirements/audit.py

lock: setup ## make requirements/*.lock again from pyproject.toml (needs uv)
	uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--extra pipeline --extra page --extra dev requirements/build.in pyproject.toml -o requirements/pipeline.lock
	uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--extra server requirements/build.in pyproject.toml -o requirements/server.lock
	for extra in container plan; do \
		uv pip compile --quiet --python-version 3.12 --generate-hashes --no-emit-index-url --no-header \
			--extra $$extra pyproject.toml -o requirements/$$extra.lock; done
	uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		requirements/supply.in -o requirements/supply.lock

clean: ## remove build/ and what MLflow logged, but not DVC's cache nor the environments
	rm -rf build mlflow.db mlartifacts
