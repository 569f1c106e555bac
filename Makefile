# Everything happens in a virtual environment of this folder: .venv
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SHOP ?= shop.sqlite
PORT ?= 8000
# Tests wait for databases, time limits and sockets more than they compute.
JOBS ?= $(shell expr 1 + $$(getconf _NPROCESSORS_ONLN))
# They start hundreds of processes, each of which would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run example test prove lint types fuzz bench page clean

help:
	@echo "make run      serve a sample shop on http://127.0.0.1:8000"
	@echo "make example  run a FastAPI app with a batch endpoint on http://127.0.0.1:8000"
	@echo "              make run PORT=8001, make example PORT=8001: on another port"
	@echo "make test     run all tests"
	@echo "make prove    run the long variants of tests, which make test leaves out"
	@echo "make lint     check style; make types: check types"
	@echo "make bench    measure; BASELINE=TREE: beside the older code in that source tree"
	@echo "make page     write what make bench has measured into the docs, and draw it"
	@echo "make fuzz     throw random bytes at the wire"
	@echo "make clean    remove the environment and the sample shop"

run: $(VENV)/run
	@test -e $(SHOP) || $(BIN)/atomicbatch sample $(SHOP)
	$(BIN)/atomicbatch serve $(SHOP) --port $(PORT)

example: $(VENV)/example
	cd examples/fastapi-shop && ../../$(BIN)/uvicorn app:app --port $(PORT)

test: $(VENV)/test
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

prove: $(VENV)/test
	$(BIN)/python -m pytest -m prove -n $(JOBS) --dist worksteal
	$(BIN)/python -m pytest --hypothesis-profile=prove -n $(JOBS) --dist worksteal tests/wire tests/sql tests/client tests/exchange

lint: $(VENV)/test
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/test
	$(BIN)/mypy

fuzz: $(VENV)/fuzz
	$(BIN)/python fuzz/fuzz_wire.py -max_total_time=$(or $(SECONDS),30)

# Each program says what it measures, and by --help what it can be told. The figures are kept, and
# "make page" writes them into docs/explanation/performance.md.
BASELINE ?=
MEASURED ?= measured
COMPARED = $(if $(BASELINE),--baseline $(BASELINE))
bench: $(VENV)/bench
	$(BIN)/python -m benchmarks.server --json $(MEASURED)/server.json
	$(BIN)/python -m benchmarks.distance --json $(MEASURED)/distance.json
	$(BIN)/python -m benchmarks.library --json $(MEASURED)/library.json
	$(BIN)/python -m benchmarks.concurrency $(COMPARED) --json $(MEASURED)/concurrency.json
	$(BIN)/python -m benchmarks.big_batches $(COMPARED) --json $(MEASURED)/big_batches.json
	$(BIN)/python -m benchmarks.stages $(COMPARED) --json $(MEASURED)/stages.json
	$(BIN)/python -m benchmarks.wire --json $(MEASURED)/wire.json
	$(BIN)/python -m benchmarks.join --json $(MEASURED)/join.json
	$(BIN)/python -m benchmarks.drf --json $(MEASURED)/drf.json
	$(BIN)/python -m benchmarks.doors --json $(MEASURED)/doors.json

page: $(VENV)/bench
	$(BIN)/python -m benchmarks.report $(MEASURED)
	$(BIN)/python -m benchmarks.plot $(MEASURED)/server.json

clean:
	rm -rf $(VENV) $(SHOP) $(SHOP)-shm $(SHOP)-wal examples/fastapi-shop/shop.sqlite

# Debian's python3 comes without what venv needs; root can add it, others are told.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "atomicbatch needs Python 3.11 or newer"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); \
	  test "$$(id -u)" = 0 && command -v apt-get >/dev/null || \
	    { echo "Python's venv module is incomplete: install the package python3-venv"; exit 1; }; \
	  apt-get update -q && apt-get install -y -q --no-install-recommends python3-venv && \
	  $(PYTHON) -m venv $(VENV); }
	@$(BIN)/python -m pip install -q --upgrade 'pip>=25.1'

$(VENV)/run: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q -e '.[server]'
	@touch $@

$(VENV)/example: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q -e '.[sqlalchemy,client]' --group example
	@touch $@

$(VENV)/test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q -e '.[all]' --group test --group lint
	@if command -v mariadb_config >/dev/null; then \
	  $(BIN)/python -m pip install -q --group mysqlclient; \
	else echo "without libmariadb-dev: mysqlclient is not tested"; fi
	@touch $@

$(VENV)/bench: $(VENV)/test
	$(BIN)/python -m pip install -q --group bench
	@touch $@

$(VENV)/fuzz: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q -e . --group fuzz
	@touch $@
