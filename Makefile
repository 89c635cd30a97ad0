# coati: everything a developer types. A machine with python3 (3.11 or newer) and make is enough:
#   make run     a standalone server on 127.0.0.1:2181
#   make test    every check and every test

PYTHON ?= python3
JOBS ?= 2
VENV := .venv
COMPILED := .venv-compiled
BIN := $(VENV)/bin
FUZZ_SECONDS ?= 60
# Directories too: their time changes when a file goes.
SOURCES := $(shell find src -name __pycache__ -prune -o -name '*.egg-info' -prune -o -name '*.py' -print -o -type d -print)

# What the server runs on, and what its developers need besides.
RUN_EXTRAS := server,cli
DEV_EXTRAS := server,cli,snappy,dev

# One file of tests stays on one worker, so that a peer which its fixtures start serves all of them.
# In the order of tests/conftest.py, not with the largest number of tests first.
PYTEST_OPTIONS := -n $(JOBS) --dist loadfile --no-loadscope-reorder
PYTEST := $(BIN)/python -m pytest $(PYTEST_OPTIONS)

# The tests start servers by the hundred; without bytecode each would compile itself anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test lint types format bench wheel test-compiled fuzz peers clean

help:
	@echo "make run            start a standalone server on 127.0.0.1:2181"
	@echo "make test           format and lint checks, types, all tests, coverage gates"
	@echo "make lint           format and lint checks and types only"
	@echo "make types          types only, by mypy and pyright (which needs node)"
	@echo "make format         let ruff rewrite the files"
	@echo "make bench          measure this machine; see bench/RESULTS.md"
	@echo "make wheel          a compiled wheel (mypyc) in dist/"
	@echo "make test-compiled  the whole test suite against the compiled wheel"
	@echo "make fuzz           each parser for $(FUZZ_SECONDS) seconds (FUZZ_SECONDS=n)"
	@echo "make peers          the Java servers that the interop tests talk to, in .interop/"
	@echo "make clean          remove environments and builds"

run: $(VENV)/.stamp-run
	@exec $(BIN)/coati serve --hint

test: lint
	@mkdir -p build && rm -f build/coverage.json
	$(PYTEST) --cov=coati --cov-report=json:build/coverage.json --coverage-gate=build/coverage.json

lint: $(VENV)/.stamp-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

types: $(VENV)/.stamp-dev
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.stamp-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.stamp-dev $(COMPILED)/.stamp-wheel
	$(BIN)/python tools/bench.py --compiled $(COMPILED)/bin/python

wheel: dist/.stamp

# No editable install here: the tests must meet the wheel. test_build.py checks that the compiled modules are loaded.
test-compiled: $(COMPILED)/.stamp-wheel
	COATI_REQUIRE_COMPILED=1 $(COMPILED)/bin/python -m pytest $(PYTEST_OPTIONS)

fuzz: $(VENV)/.stamp-fuzz
	$(BIN)/python tools/fuzz.py --seconds $(FUZZ_SECONDS) --jobs $(JOBS)

peers: $(VENV)/.stamp-dev
	$(BIN)/python tools/javapeer.py fetch

clean:
	rm -rf $(VENV) $(COMPILED) build dist src/*.egg-info .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Environments. A stamp is newer than what it was made from; pip is not asked again until pyproject.toml changes.
$(VENV)/bin/python $(COMPILED)/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "coati needs python3; set PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "coati needs Python 3.11 or newer, this is $$($(PYTHON) -V); set PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(patsubst %/bin/python,%,$@)

$(VENV)/.stamp-run: pyproject.toml setup.py | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(RUN_EXTRAS)]'
	@touch $@

$(VENV)/.stamp-dev: pyproject.toml setup.py | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(DEV_EXTRAS)]'
	@touch $@ $(VENV)/.stamp-run

$(VENV)/.stamp-fuzz: $(VENV)/.stamp-dev
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	@touch $@

# The wheel. The sources are copied first: a build inside the checkout would leave extension modules beside the plain ones.
dist/.stamp: $(SOURCES) pyproject.toml setup.py README.md LICENSE | $(VENV)/.stamp-dev
	rm -rf build/compile dist
	mkdir -p build/compile
	cp -r src pyproject.toml setup.py README.md LICENSE build/compile/
	find build/compile -name '*.egg-info' -prune -exec rm -rf {} +
	cd build/compile && COATI_COMPILE=1 ../../$(BIN)/python -m build --no-isolation --wheel --outdir ../../dist .
	@touch $@

# Twice: the first brings what coati needs, the second replaces a coati of the same version.
$(COMPILED)/.stamp-wheel: dist/.stamp | $(COMPILED)/bin/python
	$(COMPILED)/bin/python -m pip install --quiet --disable-pip-version-check "$$(echo dist/coati-*.whl)[$(DEV_EXTRAS)]"
	$(COMPILED)/bin/python -m pip install --quiet --no-deps --force-reinstall dist/coati-*.whl
	@touch $@
