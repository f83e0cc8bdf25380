# Two commands do everything on a fresh machine: make demo, make test.
# They need Python 3.11 or newer with venv, and nothing else.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TOOLS := $(VENV)/.tools
TRIAL := $(BIN)/coverage run --parallel-mode -m twisted.trial --temp-directory=_trial_temp
SESSION_TESTS := tests.core.modern tests.core.congestion
# Each other package and module of tests.
OTHER_TESTS := $(filter-out tests.core $(SESSION_TESTS),$(subst /,., \
	$(patsubst %/__init__.py,%,$(wildcard tests/*/__init__.py tests/core/*/__init__.py)) \
	$(patsubst %.py,%,$(wildcard tests/test_*.py tests/core/test_*.py))))

.PHONY: help demo test lint types unit unit-sessions unit-others docs bench install clean

help:
	@echo "make demo     a server, a client and a file through a link that loses 30 %"
	@echo "make test     lint, types, tests"
	@echo "make docs     the documentation, as HTML in docs/_build"
	@echo "make bench    what a tunnel over loopback carries"
	@echo "make install  only the virtual environment in $(VENV)"
	@echo "make clean    remove what the others made"

install: $(READY)

$(READY): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools
	$(BIN)/python -m pip install --quiet -e .
	touch $@

# What developers need besides: linters, type checker, test and documentation tools.
$(TOOLS): $(READY)
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

demo: $(READY)
	$(BIN)/python -m resip.lab.demo

test: lint types unit docs

lint: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

types: $(TOOLS)
	$(BIN)/mypy

# Simulated sessions take as long as all else together: two halves, side by side. Each shows what it
# has to say when it is done, some minutes later.
unit: $(TOOLS)
	$(BIN)/coverage erase
	$(MAKE) --jobs=2 --output-sync=target unit-sessions unit-others
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report
	$(BIN)/python -m bench.core --check

unit-sessions: $(TOOLS)
	$(TRIAL)-sessions $(SESSION_TESTS)

unit-others: $(TOOLS)
	$(TRIAL)-others $(OTHER_TESTS)

docs: $(TOOLS)
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -b html docs docs/_build/html

bench: $(READY)
	$(BIN)/python -m bench.loopback

clean:
	rm -rf $(VENV) build docs/_build _trial_temp* .coverage* .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +
