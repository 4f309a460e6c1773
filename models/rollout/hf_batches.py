"""Batches of the transformers engine: prompts of similar length together, and a random stream for each completion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True, slots=True)
class Part:
    """Samples `first` to `first + count - 1` of prompt `prompt`."""

    prompt: int
    first: int
    count: int


def uniforms(batch: list[Part], seeds: list[int], length: int) -> np.ndarray:
    """(B, length) float32 in [0, 1) with 24 random bits: row j of prompt i is the Philox stream keyed by (seeds[i], j)."""
    rows = [(seeds[part.prompt], part.first + sample) for part in batch for sample in range(part.count)]
    drawn = np.empty((len(rows), length), np.float32)
    for row, (seed, sample) in zip(drawn, rows, strict=True):
        key = np.array([seed & 0xFFFF_FFFF_FFFF_FFFF, sample], np.uint64)
        np.random.Generator(np.random.Philox(key=key)).random(out=row, dtype=np.float32)
    return drawn


def batches(lengths: list[int], n: int, largest: int) -> Iterator[list[Part]]:
    """Yield batches of at most `largest` samples. Prompts are ordered by length to reduce padding."""
    batch: list[Part] = []
    free = largest
    for prompt in sorted(range(len(lengths)), key=lambda place: lengths[place]):
        first = 0
        while first < n:
            count = min(n - first, free)
            batch.append(Part(prompt, first, count))
            first, free = first + count, free - count
            if free == 0:
                yield batch
                batch, free = [], largest
    if batch:
        yield batch


def left_padded(prompts: list[list[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (ids, mask), both (P, T) int64. The mask is 0 on padding."""
    longest = max(map(len, prompts))
    ids = np.zeros((len(prompts), longest), np.int64)
    mask = np.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = prompt
        mask[row, longest - len(prompt) :] = 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)
