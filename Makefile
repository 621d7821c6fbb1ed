# Everything that a fresh machine with Python 3.11 to 3.13 and make needs: `make demo`, `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo quick test slow lint docs studies dist lock clean

demo: $(VENV)/installed  ## train, compare, export, reload and serve on the digits
	$(BIN)/python recipes/demo.py

quick: $(VENV)/installed  ## the tests of pure functions, masks, metrics, losses and shapes, while you edit
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "quick and not slow"

test: lint docs  ## lint, types, documentation and the tests of minutes
	$(BIN)/python -m pytest -n 2 --dist loadfile

slow: $(VENV)/installed  ## the tests that take longer
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

docs: $(VENV)/installed  ## the documentation as a site, in build/site; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

studies: $(VENV)/installed  ## the tables and pictures of the documentation, from the figures in studies/figures
	$(BIN)/python studies/rebuild.py

dist:  ## the wheel and the source distribution, built and checked, in dist/
	$(PYTHON) -m venv build/packaging
	build/packaging/bin/python -m pip install --quiet --disable-pip-version-check build twine
	rm -rf dist
	build/packaging/bin/python -m build
	build/packaging/bin/python -m twine check --strict dist/*

lock:  ## write constraints.txt anew from the environment
	$(BIN)/python -m pip freeze --exclude-editable --disable-pip-version-check > constraints.txt

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
