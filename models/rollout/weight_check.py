"""Checks after every weight sync that the engine holds the weights that were sent.

At a learning rate of 1e-6, a sync that did not happen changes log-probabilities by less than rounding does, so comparing log-probabilities
cannot detect it. Comparing weights can: each tensor W is reduced to one number, r^T W c, with fixed vectors r (numbers in [-1, 1)) and
c (signs). A change of W changes this projection, unless it is orthogonal to both. The projection of matrices stacked by rows is the sum of
their projections, each with its own rows of r. So an engine can store several of the trainer's tensors as one, and a rank can hold some
rows of each.

Shape suffixes: N rows, D columns.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.distributed.tensor import DTensor, Shard
from transformers import PreTrainedModel

from mathquarry.data.errors import MathQuarryError
from mathquarry.models.policy.adapters import AdapterParts, merged_weights
from mathquarry.models.ranks.distributed import Ranks

if TYPE_CHECKING:
    from mathquarry.models.rollout.engine import RolloutEngine

EXACT = 1e-9
"""Maximum difference of two projections in float64, relative to the tensor's norm. Rounding errors are below 1e-12."""
ROUNDED = 1e-5
"""The same if a layer computes the projection in float32. One step at a rate of 1e-6 changes weights of 0.02 by 5e-5 of their norm."""

_ROWS_AT_ONCE = 1024


def check_weights(engine: RolloutEngine, trained: PreTrainedModel, ranks: Ranks, version: str) -> int:
    """Compare the weights of engine and trainer, with the trainer's rounded to the engine's precision. Returns how many were compared.

    All ranks must call it: a rank can hold only some rows of the trainer's tensors, and each compares its own engine. Tensors with other
    names in the engine than in the trainer are skipped. Raises `MathQuarryError` for the first tensor that differs; `version` names the
    weights in the message.
    """
    # An engine holds layers either merged with their adapters, or in parts. The ChainMap finds both.
    weights: Mapping[str, torch.Tensor] = ChainMap(cast(Any, merged_weights(trained)), cast(Any, AdapterParts(trained)))
    held = [one for one in engine.held_weights(trained) if all(part in weights for part in one.parts)]
    if not held:
        return 0
    sent = ranks.sum(torch.stack([_sent(one.parts, weights, one.dtype, ranks) for one in held])).tolist()
    # All ranks see the results of all engines, so that all stop together.
    for values in ranks.gather([one.projection for one in held]):
        for one, (ours, square), theirs in zip(held, sent, values, strict=True):
            allowed = (EXACT if one.exact else ROUNDED) * square**0.5
            if not abs(ours - theirs) <= allowed:  # negated, so that NaN fails too
                raise MathQuarryError(
                    f"after the sync to {version}, the engine does not hold the weights that it was sent: {' and '.join(one.parts)} differ "
                    f"({theirs:.9g} in the engine, {ours:.9g} in the trainer, by a fixed projection). It would sample from another policy "
                    "than the one in training. Report this with the versions of torch, transformers and vLLM, or set rollout.engine to "
                    "`transformers`."
                )
    return len(held)


def project(weights: torch.Tensor, first_row: int = 0) -> float:
    """Return r^T W c in float64. A vector is a matrix with one column. The first dimension counts rows; row 0 has r's `first_row`."""
    rows_ND = weights.detach().reshape(len(weights), -1)
    signs_D = signs(rows_ND.shape[1], weights.device).double()
    parts = [
        weigh_rows(rows_ND[start : start + _ROWS_AT_ONCE].double() @ signs_D, first_row + start)
        for start in range(0, len(rows_ND), _ROWS_AT_ONCE)
    ]
    return sum(parts)


def signs(count: int, device: torch.device) -> torch.Tensor:
    """Return c: shape (count,), float32, 1 or -1, which every precision represents exactly."""
    return 1.0 - 2.0 * _mixed(torch.arange(count, device=device)).bitwise_right_shift(31).float()


def weigh_rows(sums_N: torch.Tensor, first_row: int = 0) -> float:
    """Return r^T s for row sums s = W c."""
    places_N = torch.arange(first_row, first_row + len(sums_N), device=sums_N.device)
    return float((_mixed(places_N).double() / 2**31 - 1.0) @ sums_N.double())


def _mixed(places_N: torch.Tensor) -> torch.Tensor:
    """Return 32 pseudo-random bits for each index: multiplications and shifts modulo 2**32, the same on every device."""
    bits_N = (places_N + 1) * 0x9E3779B1 & 0xFFFFFFFF
    bits_N = (bits_N ^ bits_N >> 15) * 0x85EBCA77 & 0xFFFFFFFF
    return bits_N ^ bits_N >> 13


def _sent(parts: tuple[str, ...], weights: Mapping[str, torch.Tensor], dtype: torch.dtype, ranks: Ranks) -> torch.Tensor:
    """Return this rank's part of the projection of stacked tensors, rounded to `dtype`, and of the sum of their squares: shape (2,)."""
    projection, square, first_row = 0.0, 0.0, 0
    for part in parts:
        tensor = weights[part]
        own, start = _own_rows(tensor, ranks)
        if len(own):
            rounded = own.to(dtype)
            projection += project(rounded, first_row + start)
            square += float(rounded.double().square().sum())
        first_row += len(tensor)
    return torch.tensor([projection, square], dtype=torch.float64)


def _own_rows(tensor: torch.Tensor, ranks: Ranks) -> tuple[torch.Tensor, int]:
    """Return this rank's rows and the index of the first one: those of its shard, or all of them on the first rank."""
    if isinstance(tensor, DTensor):
        assert tensor.placements == (Shard(0),), "FSDP shards by rows"
        each = -(-len(tensor) // ranks.size)
        return tensor.to_local(), min(ranks.rank * each, len(tensor))
    return (tensor if ranks.is_first else tensor[:0]), 0
