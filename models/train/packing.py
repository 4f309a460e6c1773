"""Packs examples into rows of equal length, and orders the rows for a run.

The paper concatenates fine-tuning examples randomly up to the context length (section 3.1). Our choices:
1. an example is never split: in random order, each is placed into the row that it fills best;
2. examples in a row do not see each other: position ids restart, and attention follows position ids;
3. examples are packed once; later passes visit the same rows in another order.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Protocol, TypedDict

import numpy as np

from mathquarry.data.errors import MathQuarryError

IGNORED = -100
"""Label of a token without loss, if labels are token ids. If they are numbers, it is NaN."""

Labelled = tuple[Sequence[int] | np.ndarray, Sequence[int] | Sequence[float] | np.ndarray]
"""Token ids of an example, and one label per token: the token id or `IGNORED`, or a number or NaN."""


class Row(TypedDict):
    """One packed row. `labels[t]` belongs to token t itself. A loss that predicts the next token must shift labels."""

    input_ids: np.ndarray  # (T,) int64
    position_ids: np.ndarray  # (T,) int64, 0 at the start of each example and of the padding
    labels: np.ndarray  # (T,) int64 or float32


class RowStream(Protocol):
    """Rows in the order of training: `stream[i]` is the i-th row of the whole run, independent of earlier calls."""

    def __getitem__(self, place: int) -> Row:
        """Return the row at a place."""
        ...


class PackedRows:
    """Examples in rows of `context_tokens`; see `pack`."""

    def __init__(self, examples: Sequence[Labelled], rows: list[list[int]], context_tokens: int, dropped: int) -> None:
        self.examples, self.rows, self.context_tokens = examples, rows, context_tokens
        self.dropped = dropped
        self._numbers = np.asarray(examples[rows[0][0]][1]).dtype.kind == "f"

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        tokens = np.zeros(self.context_tokens, dtype=np.int64)
        positions = np.zeros(self.context_tokens, dtype=np.int64)
        labels = np.full(self.context_tokens, np.nan, np.float32) if self._numbers else np.full(self.context_tokens, IGNORED, np.int64)
        start = 0
        for example in self.rows[index]:
            ids, targets = self.examples[example]
            end = start + len(ids)
            tokens[start:end] = ids
            positions[start:end] = np.arange(len(ids))
            labels[start:end] = targets
            start = end
        positions[start:] = np.arange(self.context_tokens - start)
        return {"input_ids": tokens, "position_ids": positions, "labels": labels}


def pack(examples: Sequence[Labelled], context_tokens: int, seed: int, lengths: Sequence[int] | None = None) -> PackedRows:
    """Pack examples into as few rows of `context_tokens` as best fit finds, in an order drawn from `seed`.

    Labels are token ids for all examples (`IGNORED`: no loss), or floats for all of them (NaN: no loss). Padding has no loss. `lengths` are
    the examples' numbers of tokens, if they are known without reading them. Examples longer than a row are left out and counted in
    `.dropped`. Raises `MathQuarryError` if none is left.
    """
    order = np.random.default_rng(seed).permutation(len(examples))
    known = [len(ids) for ids, _ in examples] if lengths is None else lengths
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, row), ascending
    dropped = 0
    for example in order.tolist():
        length = known[example]
        if length > context_tokens:
            dropped += 1
            continue
        place = bisect_left(room, (length, 0))
        if place < len(room):
            left, row = room.pop(place)
            rows[row].append(example)
        else:
            left, row = context_tokens, len(rows)
            rows.append([example])
        if left > length:
            insort(room, (left - length, row))
    if not rows:
        raise MathQuarryError(
            f"no example fits context_tokens = {context_tokens}: {dropped} of {len(examples)} are longer. Raise context_tokens."
        )
    return PackedRows(examples, rows, context_tokens, dropped)


class Epochs:
    """Endless passes over `rows`, each in an order drawn from (`seed`, pass)."""

    def __init__(self, rows: PackedRows, seed: int) -> None:
        self.rows, self.seed = rows, seed
        self._orders: dict[int, np.ndarray] = {}

    def __getitem__(self, place: int) -> Row:
        epoch, index = divmod(place, len(self.rows))
        if epoch not in self._orders:
            self._orders = {epoch: np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))}
        return self.rows[int(self._orders[epoch][index])]
