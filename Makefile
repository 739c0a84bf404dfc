# Two installs: .venv to serve and to demonstrate (no torch), .venv-dev to develop and test (torch).
# Written for GNU Make 3.81, which macOS still carries.

ifeq ($(OS),Windows_NT)
$(error dejaview does not run on Windows itself. Install WSL2 and run make there)
endif

SHELL := /bin/bash
.DEFAULT_GOAL := help

# The first Python that is new enough; `make PYTHON=...` names another.
ifndef PYTHON
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
endif

VENV := .venv
DEV := .venv-dev
PY := $(DEV)/bin/python
export PYTHONUNBUFFERED := 1

.PHONY: help setup setup-dev demo test test-fast test-chart test-chart-apiserver test-image sbom test-gpu test-fault test-fault-long \
  mutations soak fuzz lint typecheck audit wheel-test clean python

help: ## print the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: $(VENV)/.stamp ## install what serving and the demo need into .venv

setup-dev: $(DEV)/.stamp ## install everything, torch included, into .venv-dev

demo: $(VENV)/.stamp ## run the main job on pictures and show what it found
	$(VENV)/bin/dejaview demo

test: $(DEV)/.stamp ## all tests; Kafka and Milvus are fetched and started by themselves
	$(PY) -m ops.local.prepare || test -z "$$CI"
	$(PY) -m tests.support.helm || test -z "$$CI"
	$(PY) -m tests.support.prometheus || test -z "$$CI"
	$(PY) -m pytest -m "not fault and not gpu and not apiserver and not image"

test-fast: $(DEV)/.stamp ## the tests that need no server
	$(PY) -m pytest tests/unit -m "not fault and not gpu"

test-chart: $(DEV)/.stamp ## the Helm chart; Helm is built once, minutes
	$(PY) -m tests.support.helm
	$(PY) -m pytest tests/chart -m "not apiserver"

test-chart-apiserver: $(DEV)/.stamp ## the chart on a real Kubernetes API server; built once, ten minutes of CPU
	$(PY) -m tests.support.helm
	$(PY) -m tests.support.apiserver
	$(PY) -m pytest tests/chart -m apiserver

test-image: $(DEV)/.stamp ## the Dockerfile's commands in a clean Debian, without an engine; as root, minutes
	$(PY) -m pytest tests/image -m image -s

sbom: $(VENV)/.stamp $(DEV)/.stamp ## build/sbom.cdx.json: what serving installs, as a CycloneDX list
	@mkdir -p build
	$(DEV)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-file build/sbom.cdx.json $(VENV)/bin/python

test-gpu: $(DEV)/.stamp ## the tests that need an NVIDIA GPU; TensorRT's too where it is installed
	$(PY) -m pytest tests/unit -m "gpu"

test-fault: $(DEV)/.stamp ## kill, suspend and cut off everything: the short seeded round, minutes
	$(PY) -m ops.local.prepare
	$(PY) -m pytest tests/fault -m "fault and not long and not alone" -n 2
	$(PY) -m pytest tests/fault -m "fault and not long and alone"

test-fault-long: $(DEV)/.stamp ## every fault of the table, ten rounds of 20,000 uploads: hours
	$(PY) -m ops.local.prepare
	$(PY) -m pytest tests/fault -m "fault"

mutations: $(DEV)/.stamp ## break each promise on purpose and see its test fail
	$(PY) -m ops.local.prepare
	$(PY) -m tests.fault.mutations

# More than `make test` does, which fuzzes with a fixed seed; needs the extra `fuzz`.
fuzz: $(DEV)/.stamp ## fuzz the event parser and the decoder, SECONDS each (60), from SEED (any)
	$(PY) -c 'import atheris' 2>/dev/null || .ci/install $(PYTHON) $(DEV) -e '.[dev,fuzz]'
	$(PY) -m tests.fuzz.run --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED))

soak: $(DEV)/.stamp ## an hour (FAULT_SOAK_S seconds) of load and random faults; is anything lost, does memory grow?
	$(PY) -m ops.local.prepare
	$(PY) -m pytest -m fault tests/fault/test_soak.py -s

lint: $(DEV)/.stamp ## ruff: rules and format
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

typecheck: $(DEV)/.stamp ## mypy, strict
	$(PY) -m mypy

audit: $(DEV)/.stamp ## known vulnerabilities in what is installed (pip-audit, or the floors in .ci/floors.txt)
	.ci/audit $(PY)

wheel-test: $(DEV)/.stamp ## build the wheel, install it elsewhere, run the demo there
	PYTHON=$(CURDIR)/$(PY) .ci/wheel-test

clean: ## remove installs, caches and builds (Kafka's and Milvus's downloads stay)
	rm -rf $(VENV) $(DEV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.stamp: pyproject.toml constraints.txt | python
	@.ci/install $(PYTHON) $(VENV) -e '.[demo]'
	@touch $@

$(DEV)/.stamp: pyproject.toml constraints.txt | python
	@.ci/install $(PYTHON) $(DEV) -e '.[dev]'
	@touch $@

# A Python that is new enough and can make virtual environments (Debian packs that apart).
python:
	@test -n "$(PYTHON)" || { echo "dejaview needs Python 3.11 or newer: install it, or make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "dejaview needs Python 3.11 or newer; $(PYTHON) is older or missing"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { test "$$(id -u)" = 0 && test -e /etc/debian_version && \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv; } || \
	  { echo "$(PYTHON) cannot make virtual environments: apt-get install python3-venv"; exit 1; }
