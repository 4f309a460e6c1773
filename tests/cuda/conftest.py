"""Tests that need a GPU (`make gpu-check`). They skip without one; with MATHQUARRY_CUDA_TESTS=cpu, those that can run on a CPU do."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

WHERE = "MATHQUARRY_CUDA_TESTS"
METRICS = "MATHQUARRY_GPU_FIGURES"
"""File to which tests add their measurements, one JSON object a line."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything here as `cuda`."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cuda)


@pytest.fixture(autouse=True)
def device() -> torch.device:
    """The GPU."""
    if os.environ.get(WHERE) == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        pytest.skip(f"no GPU is at hand (torch {torch.__version__}); {WHERE}=cpu runs what can be said on a CPU")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.device("cuda")


@pytest.fixture
def gpu(device: torch.device) -> torch.device:
    """The GPU, for tests that a CPU cannot run."""
    if device.type != "cuda":
        pytest.skip("only a GPU can say this")
    return device


@pytest.fixture
def note() -> Callable[[str, float, str], None]:
    """Record a metric for the page of `make gpu-check`: name, value, unit."""

    def keep(what: str, value: float, unit: str) -> None:
        if METRICS in os.environ:
            with Path(os.environ[METRICS]).open("a", encoding="utf-8") as file:
                file.write(json.dumps({"what": what, "value": value, "unit": unit}) + "\n")

    return keep
