# make run    serve on PORT (8080), management on MANAGEMENT_PORT (8081)
# make test   run the tests
# make check  lint, types and formatting
# make train-smile, make train-dogcat SOURCE=pictures.zip    train what Dimple brings; started again, it goes on
# make parity, make parity-load    compare with a real Multi Model Server (installed under instance/bench; needs Java)
# make bench, make soak    measure against it, and under load for long (BENCH="--quick", SOAK="--minutes 3"); docs/performance.md
# make test-zoo    every architecture of the catalogue against MXNet's and GluonCV's own (minutes)
# Each makes .venv when it is missing or older than the requirements.

PORT ?= 8080
MANAGEMENT_PORT ?= 8081
EPOCHS ?=
SOURCE ?=
RECIPE ?= best
MODELS_FROM ?=
WRITE ?=
BENCH ?=
SOAK ?=

# The first interpreter that is new and old enough; PYTHON=… overrides it.
SUPPORTED = import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))
PYTHON ?= $(shell for python in python3 python3.12 python3.11 python3.10 python; do \
	$$python -c '$(SUPPORTED)' 2>/dev/null && echo $$python && break; done)

BIN = .venv/bin

.PHONY: run test check train-smile train-dogcat parity parity-load bench soak test-zoo clean

run: .venv/.run-ready
	@DIMPLE_PORT=$(PORT) DIMPLE_MANAGEMENT_PORT=$(MANAGEMENT_PORT) exec $(BIN)/gunicorn

test: .venv/.test-ready
	@exec $(BIN)/python -m pytest $(TESTS)

check: .venv/.test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

train-smile train-dogcat: train-%: .venv/.run-ready
	@exec $(BIN)/flask --app app $* train --recipe $(RECIPE) --resume \
		$(if $(SOURCE),--source "$(SOURCE)") $(if $(EPOCHS),--epochs $(EPOCHS))

parity: .venv/.run-ready
	@exec $(BIN)/python bench/parity_mms.py $(if $(MODELS_FROM),--models-from "$(MODELS_FROM)") $(if $(WRITE),--write)

parity-load: .venv/.run-ready
	@exec $(BIN)/python bench/parity_load.py

bench: .venv/.run-ready
	@exec $(BIN)/python bench/performance.py $(BENCH)

soak: .venv/.run-ready
	@exec $(BIN)/python bench/soak.py $(SOAK)

test-zoo: .venv/.test-ready
	@exec $(BIN)/python -m pytest tests/zoo/all_architectures.py

clean:
	rm -rf .venv instance

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Dimple needs Python 3.10, 3.11 or 3.12; none was found. Name one: make PYTHON=/path/to/python3.12 …" >&2; exit 2; }
	@$(PYTHON) -c '$(SUPPORTED)' || { echo "$(PYTHON) is not Python 3.10, 3.11 or 3.12." >&2; exit 2; }
	$(PYTHON) -m venv .venv

.venv/.run-ready: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/.test-ready: requirements.txt requirements-dev.txt requirements-quantize.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@ .venv/.run-ready
