# make run: install what serving needs and start everything in one process.   make test: install the rest, test it all.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: run test test-serving lint bench images lock audit clean help

help:
	@echo "make run           start Claimsight on http://127.0.0.1:8080 (CLAIMSIGHT_PORT, CLAIMSIGHT_DATA to change)"
	@echo "make test          run every test (installs torch for those of export/)"
	@echo "make test-serving  run the tests of what serves (no torch)"
	@echo "make lint          ruff and mypy"
	@echo "make bench         the end-to-end benchmark, as a table"
	@echo "make images        build every CPU image with buildah, start them, send a claim through (as root; BASE=debian without a registry)"
	@echo "make lock          what the images install, by hash (UPGRADE=1 takes newer versions)"
	@echo "make audit         SBOMs of the images in sbom/, and known weaknesses of what they install"

run: $(VENV)/.serving
	@exec $(BIN)/python -m services.standalone --log-format console

test: $(VENV)/.train
	$(BIN)/python -m pytest

test-serving: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not train"

lint: $(VENV)/.train
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.end_to_end

images: $(VENV)/.train
	$(BIN)/python -m benchmarks.images $(if $(BASE),--$(BASE))

lock: $(VENV)/.ops
	$(BIN)/python deploy/lock.py $(if $(UPGRADE),--upgrade)

audit: $(VENV)/.ops
	@$(BIN)/python deploy/audit.py || [ $$? -eq 3 ] # 3: not reached, which it says loudly; a weakness is 1 and fails

clean:
	rm -rf $(VENV)

# Stamps: each is as new as the last installation of what it names, so that a second `make` starts at once.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

$(VENV)/.serving: pyproject.toml | $(BIN)/python
	$(PIP) install --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.serving
	$(PIP) install --editable '.[dev]'
	@touch $@

# torch first and alone: where an index offers a CPU build under this version, it is taken and then kept.
$(VENV)/.train: $(VENV)/.dev
	$(PIP) install torch==2.13.0
	$(PIP) install --editable '.[dev,train,generate]'
	@touch $@

$(VENV)/.ops: $(VENV)/.serving
	$(PIP) install --editable '.[ops]'
	@touch $@
