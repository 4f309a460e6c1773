"""The rates of this machine's processors, for plans of runs without a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from mathquarry.models.hardware import GPU

TRAIN_SHARE = 0.5
"""Share of a matrix product's FLOP/s that training reaches. Measured on two cores (docs/planning.md)."""
GENERATE_SHARE = 0.3
"""Share of a matrix product's FLOP/s that vLLM reaches."""
BANDWIDTH_SHARE = 0.6

_SIZE = 2048
"""Rows and columns of the matrices."""
_FLOATS = 2**26
"""Numbers in the vector whose reading is timed: more than the caches hold."""
_ROUNDS = 20


def measured_cpu(memory: float) -> GPU:
    """Return the rates of a machine with `memory` bytes, with all threads that PyTorch uses: float32 matrix products and reading memory.

    They are measured, which takes some seconds. So a plan for a busy machine is slower.
    """
    left, right = torch.rand(2, _SIZE, _SIZE)
    vector = torch.rand(_FLOATS)
    flops = 2 * _SIZE**3 / _fastest(lambda: left @ right)
    bandwidth = vector.nbytes / _fastest(vector.sum)
    return GPU(flops, memory, bandwidth, bandwidth, TRAIN_SHARE, GENERATE_SHARE, BANDWIDTH_SHARE, is_cpu=True)


def _fastest(work: Callable[[], object]) -> float:
    """Seconds of the fastest round; the first is not counted."""
    work()
    found = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)
