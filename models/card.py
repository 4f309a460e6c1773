"""The memory of the GPU that code runs on, or that a plan is made for. Importable without torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

CHUNK_LOGITS = 1 << 24
"""Logits that a language-model head computes at once on a CPU: 64 MiB of float32. Larger chunks are not faster (measured), smaller ones
are faster."""
CHUNK_SHARE = 1 / 256
"""The same limit on a GPU, as a share of its memory."""

SLICE_ROWS = 8192
"""Rows of a bfloat16 head that are multiplied at once, so that no product as large as all weights is held in memory."""

_planned: ContextVar[float | None] = ContextVar("planned card", default=None)


def card_memory(device: torch.device) -> float | None:
    """Bytes of memory of a GPU, or of the GPU that a plan is made for; `None` on a CPU."""
    planned = _planned.get()
    if planned is None and device.type == "cuda":
        import torch

        return float(torch.cuda.get_device_properties(device).total_memory)
    return planned


@contextmanager
def planned_card(memory: float | None) -> Iterator[None]:
    """Inside the block, sizes that depend on GPU memory are computed for a GPU with `memory` bytes, whatever the device.

    `None`: of the device itself.
    """
    token = _planned.set(memory)
    try:
        yield
    finally:
        _planned.reset(token)


def chunk_logits(card: float | None) -> int:
    """Logits that a language-model head computes at once on a GPU with `card` bytes, or on a CPU (`None`)."""
    return CHUNK_LOGITS if card is None else max(CHUNK_LOGITS, int(card * CHUNK_SHARE / 4))
