# Each target's plain commands stand in README.md too.
VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= python3

.PHONY: run test test-all check docs site graphs bench gallery clean

run: $(VENV)/samples.installed
	$(BIN)/bwpipe samples samples
	$(BIN)/bwpipe run pipeline.yaml
	@echo "Look into the folder coloured/: each file beside its grey original in samples/."

test: $(VENV)/dev.installed
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

test-all: $(VENV)/dev.installed
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile -m "slow or not slow"

check: $(VENV)/dev.installed
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

docs: $(VENV)/dev.installed
	$(BIN)/python -m bwpipe.cli.reference docs/reference
	$(BIN)/bwpipe schema -o bwpipe.schema.json

site: $(VENV)/docs.installed
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/site
	@echo "Open build/site/index.html."

graphs: $(VENV)/dev.installed
	$(BIN)/python -m bwpipe.tools.graphs

bench: $(VENV)/dev.installed
	$(BIN)/python -m bench.run_graph
	$(BIN)/python -m bench.network_speed
	$(BIN)/python -m bench.film_cost
	$(BIN)/python -m bench.train_graph

gallery: $(VENV)/dev.installed
	$(BIN)/python -m bench.gallery

$(VENV)/samples.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[samples]'
	touch $@

$(VENV)/dev.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[samples,train,export,dev]'
	touch $@

$(VENV)/docs.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) samples coloured build dist *.egg-info
