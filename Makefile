# python3 with venv is all that these need; everything else is installed into .venv
PYTHON ?= python3
BIN := .venv/bin

.PHONY: sweep test test-quick coverage chaos many-pictures bench bench-quality screenshots check lint clean constraints

## the digits sweep: 20 trials, about a minute on two cores
sweep: .venv/installed
	$(BIN)/besom sweep digits

## all tests
test: .venv/installed-dev
	$(BIN)/python -m compileall -q src # once, for a thousand processes: some machines have Python keep nothing it compiles
	$(BIN)/pytest -n 3 # a third of the time a test waits, for a server or a clock

## those that need nothing but besom
test-quick: .venv/installed-dev
	$(BIN)/python -m compileall -q src
	$(BIN)/pytest -n 3 tests/unit tests/process

## what of the code the tests run, in all processes but those that they kill; three quarters of an hour
coverage: .venv/installed-dev
	rm -f .coverage.* .coverage
	-$(BIN)/coverage run -m pytest -n 3 $(COVERED)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --skip-covered --sort=cover

COVERED ?= tests

## 50 kills at random moments, in one sweep that goes on; about ten minutes
chaos: .venv/installed-dev
	BESOM_CHAOS_KILLS=50 $(BIN)/pytest -s tests/process/test_chaos.py

## 20,000 pictures in less memory than they take; some minutes
many-pictures: .venv/installed-dev
	BESOM_PICTURES=20000 $(BIN)/pytest tests/process/test_data.py -k memory

## the benchmarks' tables
bench: .venv/installed-dev
	for benchmark in trial_overhead small_script uneven_trials ask_tell many_workers tracking_cost input_pipeline trial_profile sweep_vs_floor gpu; do \
		$(BIN)/python benchmarks/$$benchmark.py; echo; done

## the longest of them: sweeps with and without a pruner; ten searches by hand and by besom
bench-quality: .venv/installed-dev
	$(BIN)/python benchmarks/pruning.py
	$(BIN)/python benchmarks/time_to_quality.py

## the README's pictures
screenshots: .venv/installed-dev
	PYTHONPATH=tests/support $(BIN)/python docs/screenshots.py

## everything CI checks
check: lint test

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

.venv/installed-dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@ .venv/installed

## pin what is installed now
constraints: .venv/installed-dev
	(grep '^#' constraints.txt; $(BIN)/pip freeze --exclude-editable) > constraints.new
	mv constraints.new constraints.txt

clean:
	rm -rf .venv dist .pytest_cache .mypy_cache .ruff_cache
