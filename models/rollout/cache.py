"""A key-value cache that grows in place: prefills a prompt once, repeats it for its samples, and drops samples that have ended.

Legend: B sequences, H key-value heads, T tokens, D head size.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

GROWTH = 64
"""Minimum number of tokens by which a full buffer grows."""


class _Layer(DynamicLayer):
    """One layer's keys and values in buffers with spare room. The library's own layer copies everything for each new token."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.length = 0
        self.keys = self.values = torch.empty(0)

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Append (B, H, new, D) and return all keys and values so far, as views."""
        end = self.length + key_states.shape[-2]
        if not self.is_initialized:
            # The prefill is kept as it is; `spread` makes the buffers.
            self.dtype, self.device = key_states.dtype, key_states.device
            self.keys, self.values, self.is_initialized = key_states, value_states, True
        else:
            if end > self.keys.shape[-2]:
                self.spread(1, max(GROWTH, self.length // 2))
            self.keys[:, :, self.length : end] = key_states
            self.values[:, :, self.length : end] = value_states
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_seq_length(self) -> int:
        """Return the number of tokens so far."""
        return self.length

    def spread(self, repeats: torch.Tensor | int, room: int) -> None:
        """Repeat row b `repeats[b]` times and make room for `room` more tokens."""
        self.keys, self.values = (self._roomy(buffer, repeats, room) for buffer in (self.keys, self.values))

    def keep(self, rows: torch.Tensor) -> None:
        """Keep only these rows."""
        self.keys, self.values = self.keys[rows], self.values[rows]

    def _roomy(self, buffer: torch.Tensor, repeats: torch.Tensor | int, room: int) -> torch.Tensor:
        filled = buffer[:, :, : self.length]
        if not isinstance(repeats, int):
            filled = filled.repeat_interleave(repeats, dim=0)
        grown = filled.new_empty((*filled.shape[:2], self.length + room, filled.shape[3]))
        grown[:, :, : self.length] = filled
        return grown


class RolloutCache(Cache):
    """Keys and values of all layers."""

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=_Layer)
        self.layers: list[Any]

    def spread(self, repeats: torch.Tensor, room: int) -> None:
        """After the prefill, repeat row b `repeats[b]` times, with room for at least `room` more tokens before the first growth."""
        for layer in self.layers:
            layer.spread(repeats, room)

    def keep(self, rows: torch.Tensor) -> None:
        """Keep only these rows, in this order."""
        for layer in self.layers:
            layer.keep(rows)
