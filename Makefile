# make install    everything that running it needs, into .venv, at the versions and with the hashes of requirements.lock
# make install-serve    what serving converted models needs, into .venv-serve; on Python 3.11 to 3.14 (docs/install.md)
# make run    serve on PORT (8080), management on MANAGEMENT_PORT (8081)
# make test   run the tests but for the slow ones, two at a time (TESTS="tests/web -x" chooses; TEST_PROCESSES=0: one at a time)
# make test-all    run all tests, and every architecture of the catalogue against MXNet's and GluonCV's own (minutes more)
# make test-serve    serve the shipped models with requirements-serve.txt alone (PYTHON_SERVE=python3.13)
# make test-http-gunicorn27    the tests of HTTP on gunicorn 27 with its parser in Python
# make lock    write the lock files anew, after a change of the requirements (LOCK=--upgrade: newer transitive versions)
# make check  lint, types and formatting
# make train-smile, make train-dogcat SOURCE=pictures.zip    train what Dimple brings; started again, it goes on
# make parity, make parity-load    compare with a real Multi Model Server (installed under instance/bench; needs Java)
# make mms-suites MMS=checkout    Multi Model Server's own tests, out of its repository, on Dimple (needs npm)
# make bench, make soak    measure against it, and under load for long (BENCH="--quick", SOAK="--minutes 3"); docs/performance.md
# make cluster-test    a Ray head, two nodes and two servers on this machine, and all that can be lost is (CLUSTER="--nodes 2,4,8"); docs/scaling.md
# make attack    hostile requests, and what each costs in time and memory; docs/reliability.md (ATTACK="--only JSON")
# make reliability    processes killed, disks full, slow clients … under load, every request counted; docs/reliability.md
# make model-files    every kind of model file against the program that says what it means
# make rescue-matrix    the same, and the table in docs/rescue.md is written anew
# make architecture    draw the packages and their imports again; docs/architecture.md
# make faces FACES="--pictures …"    faces found and missed in photographs marked by eye (bench/faces.py says what it takes); docs/performance.md
# make fuzz    damaged files for every reader, about half an hour on two cores (FUZZ="--cases 20000 --only h5"); SECURITY.md
# make audit    ask the internet for known weaknesses of everything that is installed
# Each makes .venv when it is missing or older than the requirements.

PORT ?= 8080
MANAGEMENT_PORT ?= 8081
EPOCHS ?=
SOURCE ?=
RECIPE ?= best
MODELS_FROM ?=
WRITE ?=
TESTS ?=
TEST_PROCESSES ?= 2
LOCK ?=
MMS ?=
BENCH ?=
SOAK ?=
RELIABILITY ?=
ATTACK ?=
CLUSTER ?=
FACES ?=
FUZZ ?=

# what depends on the version of gunicorn
HTTP_TESTS = tests/server/test_worker.py tests/server/test_request_reader.py tests/server/test_arbiter.py \
	tests/server/test_gunicorn.py tests/resilience/test_requests.py tests/resilience/test_clients.py \
	--deselect tests/server/test_gunicorn.py::test_a_new_model_folder_is_served_and_a_broken_one_does_not_affect_others

# The first interpreter that is new and old enough; PYTHON=… overrides it.
SUPPORTED = import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))
PYTHON ?= $(shell for python in python3 python3.12 python3.11 python; do \
	$$python -c '$(SUPPORTED)' 2>/dev/null && echo $$python && break; done)

# Serving alone runs on newer ones, too.
SUPPORTED_SERVE = import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))
PYTHON_SERVE ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$python -c '$(SUPPORTED_SERVE)' 2>/dev/null && echo $$python && break; done)

BIN = .venv/bin

.PHONY: install install-serve lock run test test-serve test-all test-http-gunicorn27 check train-smile train-dogcat parity parity-load bench soak cluster-test reliability
.PHONY: attack faces mms-suites model-files rescue-matrix fuzz audit clean architecture

install: .venv/.run-ready

install-serve: .venv-serve/.ready

run: install
	@DIMPLE_PORT=$(PORT) DIMPLE_MANAGEMENT_PORT=$(MANAGEMENT_PORT) exec $(BIN)/gunicorn

# A file's tests stay together, since they share servers and networks; tests/conftest.py has the order of the files.
PYTEST = $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

test: .venv/.test-ready
	@exec $(PYTEST) -m "not slow" $(TESTS)

test-all: .venv/.test-ready
	$(PYTEST) --hypothesis-profile thorough $(TESTS)
	$(BIN)/python -m pytest tests/zoo/all_architectures.py

# the tests run in .venv, and the server that they talk to in .venv-serve
test-serve: .venv/.test-ready .venv-serve/.ready
	@exec $(BIN)/python -m pytest tests/serve

test-http-gunicorn27: .venv/.test-ready .venv/gunicorn27/.ready
	@PYTHONPATH="$(CURDIR)/.venv/gunicorn27" GUNICORN_CMD_ARGS="--http-parser python" exec $(PYTEST) -m "not slow" $(HTTP_TESTS)

check: .venv/.test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

train-smile train-dogcat: train-%: .venv/.run-ready
	@bin/dimple $* train --recipe $(RECIPE) --resume \
		$(if $(SOURCE),--source "$(SOURCE)") $(if $(EPOCHS),--epochs $(EPOCHS))
	@exec bin/dimple models convert $*

parity: .venv/.run-ready
	@exec $(BIN)/python bench/parity_mms.py $(if $(MODELS_FROM),--models-from "$(MODELS_FROM)") $(if $(WRITE),--write)

parity-load: .venv/.run-ready
	@exec $(BIN)/python bench/parity_load.py

mms-suites: .venv/.run-ready
	@test -n "$(MMS)" || { echo "Name a checkout of github.com/awslabs/multi-model-server: make mms-suites MMS=…" >&2; exit 2; }
	@exec $(BIN)/python bench/mms_suites.py "$(MMS)"

bench: .venv/.run-ready
	@exec $(BIN)/python bench/performance.py $(BENCH)

architecture: | .venv/bin/python
	@exec $(BIN)/python docs/draw_architecture.py

faces: .venv/.run-ready
	@exec $(BIN)/python bench/faces.py $(FACES)

soak: .venv/.run-ready
	@exec $(BIN)/python bench/soak.py $(SOAK)

cluster-test: .venv/.cluster-ready
	@exec $(BIN)/python bench/cluster_test.py $(CLUSTER)

reliability: .venv/.run-ready
	@exec $(BIN)/python bench/reliability.py $(RELIABILITY)

model-files: .venv/.test-ready
	@WRITE=$(WRITE) exec $(BIN)/python -m pytest tests/kinds

rescue-matrix: .venv/.test-ready
	@WRITE=1 exec $(BIN)/python -m pytest tests/kinds

attack: .venv/.run-ready
	@exec $(BIN)/python bench/attack.py $(ATTACK)

fuzz: .venv/.fuzz-ready
	@exec $(BIN)/python -m fuzz.run $(FUZZ)

# What SECURITY.md names is known and contained; anything else is news.
audit: .venv/.test-ready .venv/audit/.ready
	@.venv/audit/bin/pip-audit --strict --progress-spinner off --path .venv/lib/python*/site-packages \
		$(addprefix --ignore-vuln ,$(shell grep -oE 'CVE-[0-9]+-[0-9]+|GHSA(-[a-z0-9]{4}){3}' SECURITY.md | sort -u))

lock: .venv/lock/.ready
	$(call lock,requirements)
	$(call lock,requirements-serve)

# Packages of requirements-data.txt are locked without their dependencies, which their code alone needs.
define lock
@touch $(1).lock && cp $(1).lock .venv/lock/locked.txt
@.venv/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	$(LOCK) --output-file .venv/lock/locked.txt $(1).txt
@.venv/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--no-deps --output-file .venv/lock/data.txt requirements-data.txt
@{ echo "# Written by make lock, from $(1).txt and requirements-data.txt."; \
	cat .venv/lock/locked.txt .venv/lock/data.txt; } > .venv/lock/whole.txt
@mv .venv/lock/whole.txt $(1).lock
endef

# What people or programs have told the server stays: tokens, registrations with their archives, corrections, settings.
clean:
	rm -rf .venv .venv-serve
	test ! -d instance || find instance -mindepth 1 -maxdepth 1 \
		! -name 'tokens.json*' ! -name 'registry.*' ! -name archives ! -name uploaded ! -name corrections \
		! -name settings.env ! -name cluster -exec rm -rf {} +

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Dimple needs Python 3.11 or 3.12; none was found. Name one: make PYTHON=/path/to/python3.12 …" >&2; exit 2; }
	@$(PYTHON) -c '$(SUPPORTED)' || { echo "$(PYTHON) is not Python 3.11 or 3.12." >&2; exit 2; }
	@echo "Creating .venv with $(PYTHON)" >&2
	@$(PYTHON) -m venv .venv
# the pip that comes with Python 3.11 takes twice as long; without a newer one it must do
	-@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip==26.3

# programs that import MXNet or Keras there, as the tutorials' do, find the names that NumPy and Python have dropped
.venv/.names-ready: app/handlers/runtime/dimple_child/environment.py | .venv/bin/python
	@$(BIN)/python $<
	@touch $@

# pip compiles on one core what compileall compiles on all; a file for another Python that cannot be compiled is no harm
define install
@$(BIN)/python bin/_install.py --no-compile --no-warn-conflicts $(1)
-@$(BIN)/python -m compileall -qq -j 0 -x '/tests?/' .venv/lib
endef

# what the first start would do
define prepare
-@$(1)/python -m compileall -qq -j 0 app
-@$(1)/python -c "from pathlib import Path; from app.zoo.imagenet import ensure_imagenet; ensure_imagenet(Path('models'))"
endef

.venv/.run-ready: requirements.lock | .venv/.names-ready
	$(call install,--no-deps --require-hashes -r requirements.lock)
	$(call prepare,$(BIN))
	@touch $@

.venv-serve/.ready: requirements-serve.lock
	@test -n "$(PYTHON_SERVE)" || { echo "Dimple needs Python 3.11 to 3.14; none was found. Name one: make PYTHON_SERVE=/path/to/python3.13 …" >&2; exit 2; }
	@$(PYTHON_SERVE) -c '$(SUPPORTED_SERVE)' || { echo "$(PYTHON_SERVE) is not Python 3.11 to 3.14." >&2; exit 2; }
	@echo "Creating .venv-serve with $(PYTHON_SERVE)" >&2
	@$(PYTHON_SERVE) -m venv --clear .venv-serve
	@.venv-serve/bin/python bin/_install.py --no-compile --no-deps --require-hashes -r requirements-serve.lock
	-@.venv-serve/bin/python -m compileall -qq -j 0 .venv-serve/lib
	$(call prepare,.venv-serve/bin)
	@touch $@

.venv/.test-ready: .venv/.run-ready requirements-dev.txt requirements-quantize.txt requirements-otel.txt requirements-heic.txt
	$(call install,-r requirements-dev.txt)
	@touch $@

.venv/lock/.ready: requirements-lock.txt | .venv/bin/python
	$(BIN)/python -m venv .venv/lock
	.venv/lock/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-lock.txt
	@touch $@

# beside the installed one, which the tests find later
.venv/gunicorn27/.ready: requirements-gunicorn27.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target .venv/gunicorn27 -r $<
	@touch $@

.venv/.cluster-ready: .venv/.run-ready requirements-ray.txt
	$(call install,-r requirements-ray.txt)
	@touch $@

.venv/.fuzz-ready: .venv/.run-ready requirements-fuzz.txt
	$(call install,-r requirements-fuzz.txt)
	@touch $@

# pip-audit brings much that Dimple needs in other versions, or not at all
.venv/audit/.ready: requirements-audit.txt | .venv/bin/python
	$(BIN)/python -m venv .venv/audit
	.venv/audit/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-audit.txt
	@touch $@
