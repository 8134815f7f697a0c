# AuraLink AI Core. `make` lists the targets; `make run` and `make test` need only Python >= 3.11 and a package index.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MSG = printf '%s\n'
ENGINES := $(patsubst engines/%/engine.toml,%,$(wildcard engines/*/engine.toml))

.DEFAULT_GOAL := help
.PHONY: help setup engines run stop test test-prefect prefect-server check conformance format lock bench bench-peers bench-wiki chaos clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

setup: $(VENV)/.service ## Install the service into .venv (the command is then .venv/bin/auralink)

engines: $(VENV)/.service ## Install the agent frameworks, each into an environment of its own
	@$(MAKE) --no-print-directory --keep-going --jobs=3 $(ENGINES:%=engines/%/.venv/.installed)

run: $(VENV)/.service ## Set everything up, serve on 127.0.0.1:8001, and do a first real job
	@$(MAKE) --no-print-directory engines || $(MSG) 'going on without the engines that could not be installed' >&2
	@exec $(BIN)/auralink serve --first-job

stop: ## Stop the service and its Postgres, also what a killed run left
	@if [ -x $(BIN)/auralink ]; then exec $(BIN)/auralink stop; else $(MSG) 'nothing is installed'; fi

test: $(VENV)/.develop engines ## Run the tests, two for each core: most of their time they wait for servers
	@exec $(BIN)/python -m pytest -n $$($(BIN)/python -c 'import os; print(2 * (os.cpu_count() or 1))') --dist loadfile --no-loadscope-reorder

test-prefect: $(VENV)/.develop engines/prefect/.venv/.installed ## Run flows on a real Prefect server, and kill it, its worker and the flow (minutes)
	@AURALINK_TEST_PREFECT_SERVER=1 exec $(BIN)/python -m pytest tests/engines/test_prefect_server.py

prefect-server: $(VENV)/.develop engines/prefect/.venv/.installed ## Start a Prefect server (SQLite, a free port of this machine) until interrupted
	@exec $(BIN)/python -m tests.engines.prefect_server

check: $(VENV)/.develop ## Lint, types, import direction
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

conformance: $(VENV)/.develop ## Run the official MCP suite against a server directly and through the gateway (needs npm)
	@exec $(BIN)/python -m conformance

chaos: $(VENV)/.develop ## Kill API, worker, engines and Postgres while runs flow, and count what came of it (SEED=… repeats)
	@exec $(BIN)/python -m chaos $(if $(SEED),--seed $(SEED)) $(ARGS)

format: $(VENV)/.develop ## Format the code and mend what ruff can
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

bench: $(VENV)/.develop ## Measure the gateway, printed beside a baseline of the same run
	@exec $(BIN)/python -m bench

bench-peers: bench/.peers/.installed bench ## The same beside FastMCP's proxy, which gets an environment of its own

bench-wiki: $(VENV)/.develop ## Measure the wiki's answers; REPOS="path ..." are repositories with history
	@exec $(BIN)/python bench/wiki.py $(REPOS)

lock: $(VENV)/.develop ## Compile requirements/*.in into the locks
	@for name in base dev; do $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url requirements/$$name.in -o requirements/$$name.txt || exit 1; done
	@for name in $(ENGINES); do $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url engines/$$name/requirements.in -o engines/$$name/requirements.txt || exit 1; done

clean: ## Remove the environment and caches; data stays
	rm -rf $(VENV) engines/*/.venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

$(VENV)/.python:
	@command -v $(PYTHON) >/dev/null || { $(MSG) 'auralink: there is no $(PYTHON); install Python 3.11 to 3.13 or set PYTHON' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ $(MSG) "auralink: $$($(PYTHON) --version) does not do; install Python 3.11 to 3.13 or set PYTHON" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ $(MSG) 'auralink: this Python has no ensurepip; on Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	@[ -w . ] || { $(MSG) "auralink: cannot write to $$(pwd); make it writable or clone elsewhere" >&2; exit 1; }
	@$(MSG) 'creating $(VENV)'
	@$(PYTHON) -m venv $(VENV) && touch $@

$(VENV)/.service: requirements/base.txt pyproject.toml | $(VENV)/.python
	@$(MSG) 'installing the service (a minute the first time)'
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on --require-hashes -r requirements/base.txt
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.develop: requirements/dev.txt $(VENV)/.service
	@$(MSG) 'installing what checks and tests need'
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on --require-hashes -r requirements/dev.txt
	@touch $@

bench/.peers/.installed: bench/peers.txt | $(VENV)/.develop
	@$(BIN)/uv venv -q --clear --python $(BIN)/python bench/.peers && $(BIN)/uv pip install -q -p bench/.peers/bin/python -r bench/peers.txt
	@touch $@

engines/%/.venv/.installed: engines/%/requirements.txt | $(VENV)/.service
	@$(BIN)/auralink engines install $*
