# make demo: the pruned digit classifier on a simulated accelerator; make test: all tests; make help: the rest.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test filecheck unit lint bench clean

help: ## what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(VENV)/installed ## compile and run the pruned digit classifier, print the tables, leave the C in out/digits
	$(BIN)/python examples/digits/run.py --out out/digits

test: filecheck unit ## all tests: IR (lit), Python and C (pytest)

filecheck: $(VENV)/installed ## the tests of the IR
	$(BIN)/lit -q test/filecheck

unit: $(VENV)/installed ## the tests of Python and C
	$(BIN)/python -m pytest -n auto

lint: $(VENV)/installed ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python

bench: $(VENV)/installed ## speed and size, as JSON
	$(BIN)/python bench/axsim.py
	$(BIN)/python bench/crossbar_sim.py
	$(BIN)/python bench/crossbar.py --quick --target all
	$(BIN)/python bench/compile.py
	$(BIN)/python bench/cost_model.py

clean: ## remove what was made
	rm -rf $(VENV) out build *.egg-info
