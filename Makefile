# The two commands are `make demo` and `make test`; both set everything up by themselves in a local .venv.
PYTHON ?= python3
VENV := .venv
UV := $(VENV)/bin/uv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
# uv does not read pip's configuration: hand on a folder of wheels where pip has one (a CPU build of torch, say).
export UV_FIND_LINKS ?= $(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null)
export UV_TORCH_BACKEND ?= auto
