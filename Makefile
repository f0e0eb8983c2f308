# Two commands on a fresh machine: `make demo` and `make test`.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo
SECONDS = 10
COUNT = 0
TARGET =
INSTALLED := $(VENV)/.installed

.PHONY: help demo test fuzz check bench others gpu kills coverage docs lock image clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

$(INSTALLED): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@

demo: $(INSTALLED) ## train on a small embedded data set and show what it finds (under 10 minutes)
	bash scripts/demo.sh $(BIN) $(DEMO)

# A test computes on one thread (tests/conftest.py), so the other cores are idle but for this. Files
# stay whole: their tests share trained models. Each process takes about 1 GB.
test: $(INSTALLED) ## run the tests
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile

# SECONDS of each target, or COUNT files of each; TARGET names some.
fuzz: $(INSTALLED) ## read damaged files of every kind: ten seconds each, about two minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m fuzz --seconds $(SECONDS) --count $(COUNT) $(TARGET)

check: $(INSTALLED) ## lint and type-check
	$(BIN)/pip install --quiet --editable '.[dev]'
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy anomaly_cli models benchmarks fuzz

bench: $(INSTALLED) ## speed as ratios, in one run, also written to bench.json: about an hour
	$(BIN)/python benchmarks/throughput.py --json bench.json
	$(BIN)/python benchmarks/breakdown.py --json bench.json
	$(BIN)/python benchmarks/busy.py --json bench.json
	$(BIN)/python benchmarks/disentangle.py --json bench.json
	$(BIN)/python benchmarks/attention.py --json bench.json
	$(BIN)/python benchmarks/metrics.py --json bench.json
	$(BIN)/python benchmarks/report.py --json bench.json
	$(BIN)/python benchmarks/defects.py --json bench.json

# anomalib needs another OpenCV package and other versions, so it has an environment of its own.
$(VENV)-others/.installed:
	$(PYTHON) -m venv $(VENV)-others
	$(VENV)-others/bin/pip install --quiet anomalib
	touch $@

others: $(INSTALLED) $(VENV)-others/.installed ## speed beside anomalib, for which several GB are fetched
	$(BIN)/python benchmarks/others.py $(VENV)-others --json bench.json

gpu: $(INSTALLED) ## all that needs a GPU, in six minutes: same results as on the CPU, speed, memory
	$(BIN)/python benchmarks/gpu.py --json gpu.json --markdown gpu.md

kills: $(INSTALLED) ## kill commands at any moment, restart them and compare the results
	$(BIN)/python benchmarks/kills.py

coverage: $(INSTALLED) ## run the tests and list the errors that none of them raises
	$(BIN)/pip install --quiet --editable '.[dev]'
	$(BIN)/coverage run -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile
	$(BIN)/coverage combine --quiet
	$(BIN)/python scripts/raises.py

docs: $(INSTALLED) ## write docs/cli.md from the help texts
	$(BIN)/python -m typer anomaly_cli.cli utils docs --name anomaly-cli --output docs/cli.md

lock: $(INSTALLED) ## write constraints.txt: the installed packages, which were tested, with hashes
	$(BIN)/pip install --quiet uv
	$(BIN)/pip freeze --exclude-editable > $(VENV)/tested.txt
	echo opencv-python-headless | $(BIN)/uv pip compile setup.cfg - --constraint $(VENV)/tested.txt \
		--universal --python-version 3.11 --generate-hashes --no-emit-package opencv-python \
		--no-header --no-annotate --upgrade --quiet --output-file constraints.txt

image: ## build the container image
	docker build --tag anomaly-cli .

clean: ## remove the environment and the demo
	rm -rf $(VENV) $(VENV)-others $(DEMO)
