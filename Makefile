# Every target is a short script in deploy/ or scripts/, or one command; `make` alone lists them.
SHELL := /bin/bash
PYTHON := .venv/bin/python
SUITES := $(wildcard tests/contract tests/integration tests/migrating tests/fuzz tests/attack tests/e2e tests/faults)

.PHONY: help up down monitoring demo demo-add demo-status demo-down status logs images lock venv lint format test test-faults test-unit test-stack fuzz bench docs

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

up: ## Bring the whole cluster up on this machine and wait for a ready server
	@deploy/machine/up.sh

down: ## Remove every container, network and volume of the cluster
	@deploy/machine/down.sh

monitoring: ## The cluster with a Prometheus that scrapes it (docs/operations.md)
	@TMPNB_MONITORING=1 deploy/machine/up.sh

demo: ## A cluster of several hosts on this machine: make demo HOSTS=3
	@deploy/demo/up.sh

demo-add: ## Add one host to the running demo
	@deploy/demo/add.sh

demo-status: ## Show where the demo answers, and its hosts
	@deploy/demo/status.sh

demo-down: ## Remove the demo: its hosts and its control plane
	@deploy/demo/down.sh

status: ## Show what runs and where it answers
	@deploy/machine/status.sh

logs: ## Follow the logs (of one service: make logs S=agent)
	@. deploy/lib.sh && load_env && compose logs --follow --tail 100 $(S)

images: ## Pull or build every image
	@deploy/machine/engine.sh && deploy/machine/env.sh && deploy/images/build.sh

lock: ## Write the lock files from pyproject.toml (newest versions: make lock UPGRADE=--upgrade)
	@scripts/lock.sh $(UPGRADE)

venv: ## Make .venv from the lock file
	@scripts/venv.sh

lint: venv ## Check style, types, shell scripts, and that the code's shape did not get worse
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	@scripts/shape --check
	@scripts/lint-shell.sh

format: venv ## Rewrite the sources in the one style
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

test-unit: venv ## Run the unit tests (a minute, no Docker)
	$(PYTHON) -m pytest --numprocesses 4 --dist worksteal tests/unit

test-stack: venv ## Make present what the other tests need: Engine, images, browser
	@deploy/machine/engine.sh && deploy/machine/env.sh && deploy/images/build.sh && deploy/images/build.sh monitoring && deploy/images/build.sh acme && scripts/have.sh chromium chromium fonts-dejavu-core && scripts/have.sh nginx nginx-light && scripts/have.sh openssl openssl && scripts/have.sh curl curl && scripts/have.sh lego lego && scripts/have.sh pebble pebble

test: lint test-stack test-unit ## Run the linters and all tests
	$(PYTHON) -m pytest $(SUITES)

test-faults: test-stack ## Break parts of a cluster under load and check its promises (all night: LONG=1)
	TMPNB_FAULT_LONG=$(LONG) $(PYTHON) -m pytest -s $(if $(LONG),--timeout 0 tests/unit/agent/test_protocol.py) tests/faults

fuzz: test-stack ## Give 20,000 inputs by chance to all that reads what others write (10^6: LONG=1)
	TMPNB_FUZZ_LONG=$(LONG) TMPNB_FUZZ_INPUTS=$(TMPNB_FUZZ_INPUTS) \
		TMPNB_FUZZ_SEED=$${TMPNB_FUZZ_SEED:-$$(od -An -N4 -tx4 /dev/urandom | tr -d ' ')} \
		$(PYTHON) -m pytest -s --timeout 0 tests/fuzz

docs: venv ## Write the pages of docs/ that come from the code: configuration, metrics, limits, reasons
	$(PYTHON) docs/configuration.py
	$(PYTHON) docs/metrics.py
	$(PYTHON) docs/limits.py
	$(PYTHON) docs/reasons.py

bench: test-stack ## Measure and print the table of medians (claims beside those of a commit: BEFORE=ref)
	@scripts/have.sh wrk wrk
	TMPNB_BENCH_BEFORE=$(BEFORE) $(PYTHON) -m tests.bench
