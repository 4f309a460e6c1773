"""Measures the peak memory of a training loop: on the GPU, or of this process."""

from __future__ import annotations

import ctypes
import gc
import resource
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn
from torch.distributed.tensor import DTensor

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
GIB = 2**30
PAGE = 4096


class PeakMemory:
    """Peak memory of a training loop on this rank: on a GPU, what PyTorch allocated at most since the process started.

    On a CPU, it is the peak resident memory of the process from the moment when this object is made. Linux forgets the earlier peak when 5
    is written to `clear_refs`. `getrusage` has no such reset: it counts what a process held before the loop, and what its parent held when
    it started it.
    """

    def __init__(self, held: Iterable[torch.Tensor]) -> None:
        """`held` are tensors of the loop that exist already: weights, and moments of a run that resumes."""
        self._others: float | None = None
        if not torch.cuda.is_available() and STATUS.exists():
            _give_back()
            try:
                CLEAR.write_text("5")
            except OSError:  # a sandbox may forbid it
                return
            storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in held}
            for storage in storages.values():
                # Weights that are mapped from a file are resident only once they were read.
                torch.empty(0, dtype=torch.uint8).set_(storage)[::PAGE].sum()
            self._others = _status("VmRSS") - sum(storage.nbytes() for storage in storages.values())

    def metrics(self) -> dict[str, float]:
        """Return `peak_gib`: on the GPU, or of the whole process. On a CPU also `trainer_gib`: without what the process held beside the
        loop's tensors before it, for a comparison with a plan."""
        if torch.cuda.is_available():
            return {"peak_gib": torch.cuda.max_memory_allocated() / GIB}
        if self._others is None:
            return {"peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
        peak = _status("VmHWM")
        return {"peak_gib": peak / GIB, "trainer_gib": (peak - self._others) / GIB}


def tensors_of(one: nn.Module | torch.optim.Optimizer) -> Iterator[torch.Tensor]:
    """Yield the local tensors of a module or optimizer: weights and buffers, or moments."""
    if isinstance(one, nn.Module):
        found: Iterable[object] = (*one.parameters(), *one.buffers())
    else:
        found = (value for state in one.state.values() for value in state.values())
    for tensor in found:
        if isinstance(tensor, torch.Tensor):
            yield tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _give_back() -> None:
    """Return freed memory to the system: the loop would use it again, and its peak would look smaller than it is."""
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _status(field: str) -> int:
    """Return a memory size of this process in bytes."""
    return next(int(line.split()[1]) * 1024 for line in STATUS.read_text().splitlines() if line.startswith(field + ":"))
