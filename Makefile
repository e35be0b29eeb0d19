SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup dashboard dashboard-test types build release test check sqlx demo bench attack figures screenshots clean

# Sets the paths of libtorch and Postgres. Each recipe does this itself, because `setup` may have just made them. The
# variable `env` is needed because `eval "$(...)"` would hide a failure.
ENV = env=$$(deploy/setup.sh --print-env) && eval "$$env"
DASHBOARD := api/dashboard
DATA ?=
PYTHON ?=
BENCH ?=

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## Check prerequisites; fetch libtorch (and Postgres, if there is none) into the cache, once
	@deploy/setup.sh

# npm ci always starts from nothing, so it runs only if the lock file is newer than its last result.
dashboard: setup ## Build the web dashboard (cargo embeds it; without it the service shows a placeholder page)
	@if [[ ! -f $(DASHBOARD)/package.json ]]; then echo "dashboard: skipped, there is no $(DASHBOARD)/package.json"; exit; fi; \
	cd $(DASHBOARD); \
	if [[ ! -f node_modules/.package-lock.json || package-lock.json -nt node_modules/.package-lock.json ]]; then \
		npm ci --no-audit --no-fund; \
	fi; \
	npm run build

dashboard-test: dashboard ## Tests of the dashboard: units, then its pages in Chromium where there is one
	@if [[ ! -f $(DASHBOARD)/package.json ]]; then echo "dashboard-test: skipped, there is no $(DASHBOARD)/package.json"; exit; fi; \
	cd $(DASHBOARD); npm run check && npm test && npm run test:browser

# A test of `api` compares openapi.json with the routes; `npm run check` compares schema.d.ts with openapi.json.
types: dashboard ## Renew the OpenAPI document and the dashboard's types after a change to the API
	@$(ENV); document=$$(cargo run --quiet --package api --bin lamina -- openapi); \
	printf '%s\n' "$$document" >$(DASHBOARD)/openapi.json; \
	cd $(DASHBOARD); npm run types

build: setup ## Build lamina and lamina-trainer for development, in target/debug
	@$(ENV); cargo build --workspace --bins

release: setup dashboard ## Build lamina and lamina-trainer for use, in target/release
	@$(ENV); cargo build --release --workspace --bins

# The package `tests` starts the two programs from target/debug, which cargo would not build for it. Tests run side by
# side, so OpenMP's threads must not spin on cores that another test needs.
test: dashboard-test build ## Run all tests: dashboard, then the whole workspace
	@$(ENV); \
	if cargo nextest --version >/dev/null 2>&1; then run='nextest run'; else run=test; fi; \
	OMP_WAIT_POLICY=passive deploy/with-postgres.sh cargo $$run --workspace --no-fail-fast

check: setup ## Formatting and lints, warnings are errors
	@cargo fmt --all --check
	@$(ENV); cargo clippy --workspace --all-targets -- -D warnings
	@$(ENV); deploy/with-postgres.sh deploy/sqlx-prepare.sh --check
	@if command -v shellcheck >/dev/null; then git ls-files -z -- '*.sh' .ci/run | xargs -0 --no-run-if-empty shellcheck; \
	else echo "check: shell scripts not checked, shellcheck is not installed"; fi

# The compiler checks queries against the files in .sqlx, so that a build needs no database.
sqlx: setup ## Renew .sqlx after a change to a query or a migration
	@$(ENV); deploy/with-postgres.sh deploy/sqlx-prepare.sh

demo: release ## Train, compare and report from start to end: make demo [DATA=folder]
	@$(ENV); deploy/demo.sh "$(DATA)"

# PyTorch and transformers, with which the trainer is compared, go to a folder of their own in the cache.
bench: release ## Compare speed and memory with PyTorch: make bench [BENCH="--sizes narrow --eager"] [PYTHON=with torch]
	@$(ENV); deploy/bench.sh "$(PYTHON)" $(BENCH)

# The service and its agent are real; the clients are hostile. It takes some minutes and is no part of the tests.
attack: release ## What hostile clients can do to a service at work: delays, memory, answers
	@$(ENV); deploy/attack.sh

figures: ## Draw the figures of docs/
	@cargo run --quiet --package recipe --example figures -- docs/figures

screenshots: dashboard ## Take the pictures of docs/screenshots, with Chromium and made-up jobs
	@cd $(DASHBOARD); node dev/screenshots.mjs "$(CURDIR)/docs/screenshots"

clean: ## Remove everything that was built here (the cache outside the checkout stays)
	cargo clean
	rm -rf $(DASHBOARD)/dist $(DASHBOARD)/node_modules
