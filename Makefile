# make demo | test | fuzz | lint | docs | dist: each makes the environment that it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DIST ?= dist

.PHONY: demo test fuzz lint docs dist clean

demo: $(VENV)/.examples
	$(BIN)/python examples/plot_digits.py

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist loadscope

# Fits with random arguments. Other ones: make fuzz FUZZ="1000 300"
FUZZ ?= 300 0
fuzz: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python tests/system/random_fits.py $(FUZZ)

lint: $(VENV)/.lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.docs
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

dist: $(VENV)/.lint
	rm -rf $(DIST)
	$(BIN)/python -m build --outdir $(DIST)
	$(BIN)/twine check --strict $(DIST)/*

# One stamp for each set of extras: installed again when pyproject.toml changes.
$(VENV)/.%: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable ".[$*]"
	touch $@

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) $(DIST) docs/_build docs/auto_examples docs/generated
