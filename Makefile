# `make demo` and `make test` need only Python 3.11 to 3.13; everything lands in .venv.
# More arguments: make demo ARGS='--duration 20', make test ARGS='-k ring'.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# The first Python that fits; `make PYTHON=/path/to/python ...` overrides it.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	>/dev/null 2>&1 && echo "$$p" && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt
ARGS ?=
DATA ?= ../shared/data

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export OMP_NUM_THREADS := 1
export OMP_WAIT_POLICY := PASSIVE

.PHONY: help demo test check soak bench bundles

help: ## what can be made
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 16

demo: .venv/.demo ## a simulated participant through the shipped bundles, without torch
	$(BIN)/vagus demo $(ARGS)

test: .venv/.dev ## the whole suite
	$(BIN)/pytest --numprocesses 2 --dist loadfile $(ARGS)

check: .venv/.dev ## format, lint, types, and the fast tests: before each commit
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict
	$(BIN)/pytest -m 'not slow' $(ARGS)

soak: .venv/.dev ## the whole suite with full counts (kills, swaps, minutes of fuzzing)
	VAGUS_SOAK=1 $(BIN)/pytest --timeout 7200 $(ARGS)

bench: .venv/.dev ## side-by-side benchmarks, into benchmarks/results/
	$(BIN)/python -m benchmarks --out benchmarks/results $(ARGS)

bundles: .venv/.dev ## train the shipped bundles again (make bundles DATA=folder with eeg/ and speech/)
	for k in eeg skin pulse voice face; do \
		$(BIN)/vagus train simulated-$$k --out runs/simulated-$$k; done
	$(BIN)/vagus train workload-eegmat --data "$(DATA)/eeg" --out runs/workload-eegmat
	for v in speech-4 speech-ravdess-8; do \
		$(BIN)/vagus train $$v --data "$(DATA)/speech" --out runs/$$v; done
	for b in simulated-{eeg,skin,pulse,voice,face} workload-eegmat speech-{4,ravdess-8}; do \
		rm -rf "configs/bundles/$$b" && cp -r "runs/$$b/bundle" "configs/bundles/$$b"; done

# One environment for both. Installed editable, so a changed file needs no second install; the
# development extras contain the demo's needs, so after `make test` the demo installs nothing.
.venv/.made:
	@test -n "$(PYTHON)" || { echo "vagus needs Python 3.11 to 3.13: make PYTHON=..." >&2; exit 2; }
	"$(PYTHON)" -m venv .venv
	touch $@

.venv/.demo: .venv/.made pyproject.toml constraints.txt
	@echo "installing vagus into .venv"
	$(PIP) --editable .
	touch $@

.venv/.dev: .venv/.made pyproject.toml constraints.txt
	@echo "installing vagus and what its tests need into .venv; the first time takes minutes"
	$(PIP) --editable '.[dev]'
	touch $@ .venv/.demo
