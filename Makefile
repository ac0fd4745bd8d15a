# mnist-spark. `make run` sets everything up and runs the main job; `make test` runs the tests.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

# Each of the many Python processes would compile the package and the tests.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c conf/constraints.txt -e

.PHONY: help setup java fuse browser archive deploy-tools run check unit test test-long test-matrix mutate cover lint audit fuzz chaos bench bench-scale bench-driver bench-encodings clean

help:  ## show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/installed-dev java fuse archive  ## make .venv with everything, check Java

# What the job needs. The rest comes with the targets that need it, in the same environment.
$(VENV)/installed-run: setup.cfg pyproject.toml conf/constraints.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("mnist-spark needs Python 3.11 or newer, this is " + sys.version)'
	[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	$(PIP) '.[spark]'
	touch $@

$(VENV)/installed-dev: $(VENV)/installed-run
	$(PIP) '.[spark,dev]'
	touch $@

FIND_JAVA := $(BIN)/python -c 'import mnist_spark.spark.java as j; j.find_java()'

java: $(VENV)/installed-run
	@$(FIND_JAVA) 2>/dev/null && exit; \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing Java, which Spark needs"; apt-get update -qq; \
	    DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends openjdk-17-jre-headless \
	      || DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends openjdk-21-jre-headless; \
	  fi; \
	  $(FIND_JAVA) 2>&1 | tail -n 1; $(FIND_JAVA) 2>/dev/null

# What mounting needs; the tests of it say so and are skipped where it can't be had.
fuse:
	@command -v fusermount3 >/dev/null && exit; \
	  if [ "$$(uname)" = Linux ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing FUSE, for mounting"; \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	      apt-get install -qq --no-install-recommends fuse3; } || echo "FUSE could not be had"; \
	  fi

# What the test of the status page needs.
browser:
	@command -v chromium >/dev/null && exit; \
	  if [ "$$(uname)" = Linux ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing Chromium, for the test of the status page"; \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	      apt-get install -qq --no-install-recommends chromium >/dev/null; } || echo "Chromium could not be had"; \
	  fi

# Of Java classes, for all JVMs that tests start. The first test that needs it would make it too.
archive: $(VENV)/installed-dev java
	@$(BIN)/python -m tests.support.jvm

run: $(VENV)/installed-run java  ## ingest MNIST into a Delta table under data/ and show it
	@export MNIST_SPARK_CACHE="$${MNIST_SPARK_CACHE:-$$PWD/data/cache}"; \
	  $(BIN)/python jobs/run.py data/tables

# In an environment of their own: Airflow alone brings a hundred packages and newer versions.
deploy-tools: $(VENV)-deploy/installed  ## the tools that check deployment descriptors (Airflow …)

$(VENV)-deploy/installed: tests/deploy/requirements.txt
	[ -x $(VENV)-deploy/bin/python ] || $(PYTHON) -m venv $(VENV)-deploy
	$(VENV)-deploy/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

# Java is out of reach, so that a test that needs it and isn't marked is noticed. Five processes for two
# cores, as many of these tests wait for servers that hang.
unit: $(VENV)/installed-dev
	@JAVA_HOME=/nowhere $(BIN)/python -m pytest -q -n 5 --no-loadscope-reorder -m 'not spark and not long' $(ARGS)

check: $(VENV)/installed-dev  ## lint and the tests without Spark
	@$(MAKE) --no-print-directory -j 2 --output-sync=target lint unit

# Three processes, each with a Spark session of its own; tests/conftest.py has the long files begin
# first.
test: setup deploy-tools browser  ## every tier of tests but test-long; ARGS='-k delta' for some
	$(BIN)/python -m pytest -n 3 --no-loadscope-reorder -m 'not long' $(ARGS)

test-long: setup deploy-tools test-matrix  ## whole notebooks, Airflow's whole run, a minute of chaos, other versions
	$(BIN)/python -m pytest -n 2 --no-loadscope-reorder -m long $(ARGS)

test-matrix: $(VENV)/installed-run java  ## other Pythons, Javas and Sparks, as far as they are here; MATRIX=python-3.12 for some
	@VENV=$(VENV) $(BIN)/python .ci/matrix $(MATRIX)

$(VENV)/installed-mutate: $(VENV)/installed-dev
	$(PIP) '.[spark,dev,mutate]'
	touch $@

mutate: $(VENV)/installed-mutate  ## change the code, see whether tests notice; ROOM=decode for one, ARGS='--number 0' for all mutants
	$(BIN)/python -m tests.mutation.run $(ROOM) $(ARGS)

cover: $(VENV)/installed-dev  ## lines and branches that the tests without Spark reach; ARGS='-m "not long"' for all tests
	@mkdir -p artifacts/coverage
	$(BIN)/python -m pytest -q -n 2 --no-loadscope-reorder -m 'not spark and not long' --cov \
	  --cov-report=term-missing:skip-covered --cov-report=html $(ARGS)

lint: $(VENV)/installed-dev  ## ruff, mypy strict, and the order of the rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

audit: $(VENV)/installed-dev  ## known vulnerabilities of the pinned dependencies; skipped aloud without network
	$(BIN)/python .ci/audit

fuzz: $(VENV)/installed-dev  ## fuzz all parsers, SECONDS=180 each; ARGS='header cli' for some
	$(BIN)/python -m tests.fuzz.run --seconds $(or $(SECONDS),180) $(ARGS)

chaos: setup  ## refresh a table for SECONDS=300 while everything around it is killed, full or changed
	$(BIN)/python -m tests.chaos.run --seconds $(or $(SECONDS),300) --report artifacts/chaos.json $(ARGS)

bench: setup  ## every way from gzip files to a Delta table, 70,000 rows; ROUNDS=1 is quicker
	$(BIN)/python -m tests.benchmarks.bench --rounds $(or $(ROUNDS),3) $(ARGS)

bench-scale: setup  ## the columnar writer up to 8.1 million rows; SIZES='0.1 1' (millions) for less
	$(BIN)/python -m tests.benchmarks.scale $(or $(SIZES),0.1 1 8.1)

bench-driver: $(VENV)/installed-dev  ## planning and committing a billion records, without them
	$(BIN)/python -m tests.benchmarks.driver_side $(ARGS)

bench-encodings: $(VENV)/installed-dev  ## what Parquet encodings and compression levels cost and give
	$(BIN)/python -m tests.benchmarks.encodings $(ARGS)

clean:  ## remove what make has made, the tables under data/ too
	rm -rf $(VENV) $(VENV)-* data build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
