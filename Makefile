# Two commands for a newcomer: `make demo` and `make test`. Each does its own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The locks are whole. pip resolves nothing (older ones ask for `coverage[toml]` anew, without its pin): it checks afterwards.
PIP_FLAGS := --quiet --disable-pip-version-check --require-hashes --no-deps

.PHONY: help setup demo test check format lint types imports lock calendar aws-tools peers deploy-check schema clean

help: ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

setup: $(VENV)/.ready ## make the virtual environment in .venv

$(VENV)/.ready: requirements/dev.lock requirements/sample.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("condvest needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Say which to use: make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install $(PIP_FLAGS) -r requirements/dev.lock
	$(BIN)/python -m pip check --disable-pip-version-check
	$(BIN)/python -m pip install $(PIP_FLAGS) -r requirements/sample.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# The calendar is compared with pandas_market_calendars in an environment of its own: pandas stays out of .venv.
calendar: .venv-calendar/.ready ## make the environment that compares the shipped calendar with the library

.venv-calendar/.ready: requirements/calendar.lock
	$(PYTHON) -m venv --clear .venv-calendar
	.venv-calendar/bin/python -m pip install $(PIP_FLAGS) -r requirements/calendar.lock
	.venv-calendar/bin/python -m pip check --disable-pip-version-check
	@touch $@

# The tools of the AWS deployment, and its emulators, in an environment of their own too: they bring a hundred packages.
aws-tools: .venv-aws/.ready ## make the environment that checks and rehearses the AWS deployment

.venv-aws/.ready: requirements/aws.lock
	$(PYTHON) -m venv --clear .venv-aws
	.venv-aws/bin/python -m pip install $(PIP_FLAGS) -r requirements/aws.lock
	.venv-aws/bin/python -m pip check --disable-pip-version-check
	@touch $@

# The tools that the benchmark compares condvest with. Here too they stay out of .venv: pyarrow imports pandas when it finds it.
peers: .venv-peers/.ready ## make the environment of the tools that the benchmark compares with

.venv-peers/.ready: requirements/peers.lock
	$(PYTHON) -m venv --clear .venv-peers
	.venv-peers/bin/python -m pip install $(PIP_FLAGS) -r requirements/peers.lock
	.venv-peers/bin/python -m pip check --disable-pip-version-check
	@touch $@

demo: setup ## the main job on real bars, start to end
	$(BIN)/condvest demo

test: setup calendar aws-tools ## all tests
	$(BIN)/python -m pytest -n 2 --cov --cov-report=term

.PHONY: test-aws
test-aws: setup aws-tools ## the deployment on an emulator, alone
	$(BIN)/python -m pytest -m aws

# Prints what was tried and found; ARGS="kill/folder/consolidate/1/7" runs one trial again, ARGS="--write docs/reliability.md" keeps the report.
.PHONY: trials
trials: setup ## thousands of crashes, races and faults, each held against a clean run; up to an hour
	PYTHONPATH=tests $(BIN)/python -m faults.trials $(ARGS)

# cfn-lint also knows the state machine's language; hadolint the Dockerfile's, shellcheck that of the scripts, check-jsonschema that
# of docker-compose.
deploy-check: aws-tools ## templates, policies, state machine, scripts, Dockerfile and docker-compose file
	.venv-aws/bin/cfn-lint deploy/stack/*.yaml
	.venv-aws/bin/python -W ignore::UserWarning tools/check_stack.py
	.venv-aws/bin/shellcheck --external-sources deploy/*.sh deploy/*/*.sh local_dev/*.sh .ci/run
	.venv-aws/bin/hadolint deploy/batch/Dockerfile
	.venv-aws/bin/check-jsonschema --quiet --builtin-schema vendor.compose-spec local_dev/docker-compose.yml

.PHONY: price
price: setup ## what a month on AWS costs, from metered days
	$(BIN)/python benchmarks/price_month.py

check: setup format-check lint types imports deploy-check test ## format, lint, types, import contracts, then all tests

format: setup ## write the code in the project's format
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

.PHONY: format-check
format-check: setup
	$(BIN)/ruff format --check .

lint: setup
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/lint-imports

lock: ## pin every version anew, with hashes and without addresses (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --extra demo --extra aws pyproject.toml requirements/dev.in -o requirements/dev.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-deps requirements/sample.in -o requirements/sample.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url requirements/calendar.in -o requirements/calendar.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url requirements/peers.in -o requirements/peers.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url requirements/aws.in -o requirements/aws.lock
	uv pip compile --quiet --universal --python-version 3.12 --generate-hashes --no-emit-index-url --constraint requirements/dev.lock deploy/lambda/layer_requirements.in -o deploy/lambda/layer_requirements.txt
	uv pip compile --quiet --universal --python-version 3.12 --generate-hashes --no-emit-index-url --constraint requirements/dev.lock deploy/batch/requirements.in -o deploy/batch/requirements.txt

schema: setup ## write database/schemas/schema_init_postgres.sql from the migrations
	$(BIN)/python tools/build_schema.py

clean: ## remove what make made
	rm -rf .venv .venv-calendar .venv-aws .venv-peers build .coverage* .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-lake

.PHONY: bench
bench: setup peers ## the jobs beside their floors and peers, as ratios; half an hour, two minutes with SIZE=small
	$(BIN)/python benchmarks/bench.py --size $(or $(SIZE),full) $(ARGS)

.PHONY: readme
readme: setup ## write the README's table of settings
	$(BIN)/python tools/build_readme.py
