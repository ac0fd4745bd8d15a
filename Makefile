# mnist-spark. `make run` sets everything up and runs the main job; `make test` runs the tests.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

MATRIX       := 4.0.5 4.1.4
MATRIX_TESTS := tests/spark/test_source.py tests/ingestion/test_ingest.py

.PHONY: help setup java fuse deploy-tools run test test-matrix lint audit fuzz chaos bench bench-scale bench-driver bench-encodings clean

help:  ## show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/installed java fuse  ## make .venv with everything, check Java

$(VENV)/installed: setup.cfg pyproject.toml conf/constraints.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("mnist-spark needs Python 3.11 or newer, this is " + sys.version)'
	[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c conf/constraints.txt -e '.[spark,dev]'
	touch $@

FIND_JAVA := $(BIN)/python -c 'import mnist_spark.spark.session as s; s.find_java()'

java: $(VENV)/installed
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

run: setup  ## ingest MNIST into a Delta table under data/ and show it
	@export MNIST_SPARK_CACHE="$${MNIST_SPARK_CACHE:-$$PWD/data/cache}"; \
	  $(BIN)/python jobs/run.py data/tables

# In an environment of their own: Airflow alone brings a hundred packages and newer versions.
deploy-tools: $(VENV)-deploy/installed  ## the tools that check deployment descriptors (Airflow …)

$(VENV)-deploy/installed: tests/deploy/requirements.txt
	[ -x $(VENV)-deploy/bin/python ] || $(PYTHON) -m venv $(VENV)-deploy
	$(VENV)-deploy/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

# Two processes, each with a Spark session of its own; long files come first in the alphabet.
test: setup deploy-tools  ## all tests; ARGS='-k delta' for some
	$(BIN)/python -m pytest -n 2 --no-loadscope-reorder $(ARGS)

# Environments with other Sparks: pyspark alone, as the package needs nothing else of it.
$(VENV)-spark-%/installed: setup.cfg conf/constraints.txt
	[ -x $(@D)/bin/python ] || $(PYTHON) -m venv $(@D)
	grep -viE '^(pyspark|py4j|delta.spark)==' conf/constraints.txt > $(@D)/constraints.txt
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -c $(@D)/constraints.txt \
	  -e '.[pandas,delta]' pyspark==$* duckdb hypothesis polars psutil pytest pytest-timeout
	touch $@

test-matrix: $(MATRIX:%=$(VENV)-spark-%/installed) java  ## the Spark tests on Spark 4.0 and 4.1; MATRIX_TESTS='tests/spark/test_source.py' for some
	for version in $(MATRIX); do $(VENV)-spark-$$version/bin/python -m pytest $(MATRIX_TESTS); done

lint: $(VENV)/installed  ## ruff and mypy strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

audit: $(VENV)/installed  ## known vulnerabilities of the pinned dependencies; skipped aloud without network
	$(BIN)/python .ci/audit

fuzz: $(VENV)/installed  ## fuzz all parsers, SECONDS=180 each; ARGS='header cli' for some
	$(BIN)/python -m tests.fuzz.run --seconds $(or $(SECONDS),180) $(ARGS)

chaos: setup  ## refresh a table for SECONDS=300 while everything around it is killed, full or changed
	$(BIN)/python -m tests.chaos.run --seconds $(or $(SECONDS),300) --report artifacts/chaos.json $(ARGS)

bench: setup  ## every way from gzip files to a Delta table, 70,000 rows; ROUNDS=1 is quicker
	$(BIN)/python -m tests.benchmarks.bench --rounds $(or $(ROUNDS),3) $(ARGS)

bench-scale: setup  ## the columnar writer up to 8.1 million rows; SIZES='0.1 1' (millions) for less
	$(BIN)/python -m tests.benchmarks.scale $(or $(SIZES),0.1 1 8.1)

bench-driver: $(VENV)/installed  ## planning and committing a billion records, without them
	$(BIN)/python -m tests.benchmarks.driver_side $(ARGS)

bench-encodings: $(VENV)/installed  ## what Parquet encodings and compression levels cost and give
	$(BIN)/python -m tests.benchmarks.encodings $(ARGS)

clean:  ## remove what make has made, the tables under data/ too
	rm -rf $(VENV) $(VENV)-* data build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
