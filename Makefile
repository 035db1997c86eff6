# make run    evaluate rdvla-adaptive on a quick slice of LIBERO and CALVIN; options by ARGS="..."
# make test   run the tests, in two processes; others by JOBS=4, none with JOBS=0; a selection by TESTS="tests/test_ray.py"
#             both install everything first
# make train-libero, make train-calvin   make the package's weights from nothing (docs/training.md)
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
ARGS   ?=
TORCH  := 2.13.0
RUNS   ?= runs
THREADS ?= 2
JOBS   ?= 2

.PHONY: setup run test lint types bench build clean train-libero train-calvin
.DELETE_ON_ERROR:

setup: $(VENV)/.ready

# The CPU build of PyTorch first: left to itself, pip takes the one with several GB of CUDA. Its versions end in
# "+cpu" on PyTorch's own index; elsewhere than on Linux the plain build is the CPU build.
$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 13) else \
		f"Python 3.11 or 3.12 is needed, {sys.executable} is {sys.version.split()[0]}: make setup PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "setuptools>=77" wheel
	$(BIN)/python -c 'import torch' 2>/dev/null \
		|| $(BIN)/python -m pip install --quiet "torch==$(TORCH)+cpu" 2>/dev/null \
		|| $(BIN)/python -m pip install --quiet "torch==$(TORCH)+cpu" --index-url https://download.pytorch.org/whl/cpu 2>/dev/null \
		|| $(BIN)/python -m pip install --quiet "torch==$(TORCH)"
	$(BIN)/python -m pip install --quiet --no-build-isolation -c constraints.txt -e ".[all,dev]"
	$(BIN)/python -m pip check
	@touch $@

run: setup
	$(BIN)/python -m rdvla_bench.run --policy rdvla-adaptive $(ARGS)

test: setup
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup --no-loadscope-reorder $(TESTS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Type checkers do not follow the folder mapping of pyproject.toml, so they read a linked view of the package.
types: setup
	rm -rf build/view && mkdir -p build/view && cp -rs "$(CURDIR)/rdvla_bench" build/view/
	ln -s "$(CURDIR)/envs" "$(CURDIR)/policies" "$(CURDIR)/leaderboards" build/view/rdvla_bench/
	cd build/view && MYPYPATH=. ../../$(BIN)/mypy --config-file ../../pyproject.toml -p rdvla_bench

# Weights for the package, from nothing: records demonstrations, trains on them, puts the model's file in its place.
# Ctrl-C stops; the same target again resumes. The bits depend on THREADS. glibc gives large freed blocks back to the
# system and asks for them again in every step; keeping them makes one step 0.55 instead of 0.61 CPU s.
train-libero train-calvin: train-%: setup
	MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=8000000000 MALLOC_TOP_PAD_=268435456 \
		OMP_NUM_THREADS=$(THREADS) $(BIN)/python -m rdvla_bench.recipe recipes/rdvla-nano-$*.toml \
		--workers $(THREADS) --out $(RUNS)/rdvla-nano-$*
	$(BIN)/python -m rdvla_bench.ship $(RUNS)/rdvla-nano-$* --name rdvla-nano-$*

bench: setup
	$(BIN)/python -m rdvla_bench.bench libero

build: setup
	$(BIN)/python -m build --wheel --no-isolation

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
