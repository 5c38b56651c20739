# Two commands do all the set-up: `make demo` and `make test`. Both use the same .venv, editable, with every extra.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
WORKERS ?= 2
EXAMPLES ?= 5000

.PHONY: demo test random mutate lint docs gpu clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	# nnU-Net's networks and plans, in 0.5 MB of Python; all that it needs besides (timm, torchvision, ...) is for trainings with it.
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt nnunetv2 dynamic-network-architectures batchgenerators
	touch $@

demo: $(STAMP)
	$(BIN)/ranp prune unet3d --set base_width=16 --classes 3 --data phantom --patch 48 --batches 4 --sparsity 0.5 --reweight flops --out runs/demo --force

test: $(STAMP) lint
	OMP_NUM_THREADS=1 RANP_NATIVE=require $(BIN)/pytest -n $(WORKERS) --dist worksteal

random: $(STAMP)
	OMP_NUM_THREADS=1 RANP_EXAMPLES=$(EXAMPLES) $(BIN)/pytest tests/graph/test_random_networks.py

# Change one thing at a time in a module and say which changes no test sees; a file of 100 lines takes minutes.
FILE ?= ranp/graph/_labels.py
TESTS ?= tests/graph
mutate: $(STAMP)
	@git diff --quiet -- $(FILE) || { echo "$(FILE) has changes: commit them first, it is mutated in place"; exit 2; }
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt cosmic-ray
	mkdir -p build && rm -f build/mutation.sqlite
	sed -e 's|@FILE@|$(FILE)|' -e 's|@TESTS@|$(TESTS)|' mutation.toml > build/mutation.toml
	$(BIN)/cosmic-ray init build/mutation.toml build/mutation.sqlite
	$(BIN)/cr-filter-operators build/mutation.sqlite build/mutation.toml
	$(BIN)/cosmic-ray baseline build/mutation.toml
	OMP_NUM_THREADS=1 $(BIN)/cosmic-ray exec build/mutation.toml build/mutation.sqlite
	$(BIN)/cr-report --surviving-only --show-diff build/mutation.sqlite
	$(BIN)/cr-rate build/mutation.sqlite

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
