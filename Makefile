# Two commands do all the set-up: `make demo` and `make test`. Both use the same .venv, editable, with every extra.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
WORKERS ?= 2
EXAMPLES ?= 5000

.PHONY: demo test random lint docs gpu clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/ranp prune unet3d --set base_width=16 --classes 3 --data phantom --patch 48 --batches 4 --sparsity 0.5 --reweight flops --out runs/demo --force

test: $(STAMP) lint
	OMP_NUM_THREADS=1 RANP_NATIVE=require $(BIN)/pytest -n $(WORKERS) --dist worksteal

random: $(STAMP)
	OMP_NUM_THREADS=1 RANP_EXAMPLES=$(EXAMPLES) $(BIN)/pytest tests/graph/test_random_networks.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy examples benchmarks

docs: $(STAMP)
	$(BIN)/python docs/make_cli.py

# Where a card is, an environment may not be: any Python with torch will do.
gpu:
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) benchmarks/gpu.py

clean:
	rm -rf .venv build runs
