# Every target sets up what it needs: a virtual environment in .venv with the pinned versions.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
CODE   := src tests benchmarks examples

.PHONY: quickstart tiny-encoder test test-slow test-all check static format clean help

help:
	@echo "make quickstart    pre-train a tiny encoder on synthetic sounds, evaluate it, use it (10 minutes)"
	@echo "make tiny-encoder  rebuild the encoder that matpac.load(\"tiny\") returns (four hours; fluidsynth, espeak-ng, sox)"
	@echo "make test          run the tests (under 4 minutes on two cores)"
	@echo "make test-slow     run the slow tests: launchers, kills, trainings by two processes, whole commands"
	@echo "make test-all      run both"
	@echo "make check         format, lint, types, layers and tests: what must pass before a commit"
	@echo "make format        format the code"
	@echo "make clean         remove the virtual environment"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "matpac needs Python 3.10 or newer; set PYTHON=…")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

quickstart: $(READY)
	$(BIN)/matpac quickstart

tiny-encoder: $(READY)
	$(BIN)/python benchmarks/tiny_encoder.py --output runs/tiny-encoder

test: $(READY)
	$(BIN)/python -m pytest -n auto -m "not slow"

test-slow: $(READY)
	$(BIN)/python -m pytest -n auto -m slow

test-all: test test-slow

static: $(READY)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/pyright
	$(BIN)/lint-imports

check: static test

format: $(READY)
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

clean:
	rm -rf $(VENV)
