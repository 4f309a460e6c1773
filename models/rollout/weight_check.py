"""The check after every weight sync that the engine holds the weights it was sent.

A sync that never happened changes log-probabilities by less than rounding does at a learning rate of 1e-6, so no comparison of
log-probabilities can see it. The weights themselves can be compared: each tensor W is reduced to one number, r^T W c, with a fixed r of
numbers in [-1, 1) and a fixed c of signs. A change of W shows in it unless the change is orthogonal to both. The projection of matrices
stacked by rows is the sum of their projections, each with the rows of r that it has in the stack; so an engine may keep several of the
trainer's tensors as one, and a rank may hold some rows of each.

Shape suffixes: N rows, D columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.distributed.tensor import DTensor, Shard
from transformers import PreTrainedModel

from data.errors import MathQuarryError
from models.distributed import Ranks

if TYPE_CHECKING:
    from models.rollout.engine import RolloutEngine

EXACT = 1e-9
"""Largest difference of two projections in float64, as a share of the tensor's norm: that of rounding is below 1e-12."""
ROUNDED = 1e-5
"""The same where a layer computes the projection in float32. One step at a rate of 1e-6 changes weights of 0.02 by 5e-5 of their norm."""

_ROWS_AT_ONCE = 1024


def check_weights(engine: RolloutEngine, trained: PreTrainedModel, ranks: Ranks, version: str) -> int:
    """Compare the weights of engine and trainer, the trainer's rounded to the engine's precision. Returns how many tensors were compared.

    Every rank must call it, since a rank may hold only some rows of the trainer's tensors, and compares its own engine. Tensors that the
    engine names otherwise than the trainer are passed over. Raises `MathQuarryError` naming the first tensor that differs; `version` names
    the weights in the message.
    """
    weights = trained.state_dict()
    held = [one for one in engine.held_weights(trained) if all(part in weights for part in one.parts)]
    if not held:
        return 0
    sent = ranks.sum(torch.stack([_sent(one.parts, weights, one.dtype, ranks) for one in held])).tolist()
    # All ranks look at all engines, so that all stop together.
    for values in ranks.gather([one.projection for one in held]):
        for one, (ours, square), theirs in zip(held, sent, values, strict=True):
            allowed = (EXACT if one.exact else ROUNDED) * square**0.5
            if not abs(ours - theirs) <= allowed:  # written so that NaN fails too
                raise MathQuarryError(
                    f"after the sync to {version}, the engine does not hold the weights that it was sent: {' and '.join(one.parts)} differ "
                    f"({theirs:.9g} in the engine, {ours:.9g} in the trainer, by a fixed projection). It would answer for another policy "
                    "than the one that is trained. Report this with the versions of torch, transformers and vLLM, or set rollout.engine to "
                    "`transformers`."
                )
    return len(held)


def project(weights: torch.Tensor, first_row: int = 0) -> float:
    """r^T W c in float64. A vector is a matrix of one column; of more dimensions the first counts the rows. Row 0 has r's `first_row`."""
    rows_ND = weights.detach().reshape(len(weights), -1)
    signs_D = signs(rows_ND.shape[1], weights.device).double()
    parts = [
        weigh_rows(rows_ND[start : start + _ROWS_AT_ONCE].double() @ signs_D, first_row + start)
        for start in range(0, len(rows_ND), _ROWS_AT_ONCE)
    ]
    return sum(parts)


def signs(count: int, device: torch.device) -> torch.Tensor:
    """c: shape (count,), float32, 1 or -1, which every precision holds exactly."""
    return 1.0 - 2.0 * _mixed(torch.arange(count, device=device)).bitwise_right_shift(31).float()


def weigh_rows(sums_N: torch.Tensor, first_row: int = 0) -> float:
    """r^T s for row sums s = W c."""
    places_N = torch.arange(first_row, first_row + len(sums_N), device=sums_N.device)
    return float((_mixed(places_N).double() / 2**31 - 1.0) @ sums_N.double())


def _mixed(places_N: torch.Tensor) -> torch.Tensor:
    """32 bits for each place that look random: multiplications and shifts modulo 2**32, the same on every device."""
    bits_N = (places_N + 1) * 0x9E3779B1 & 0xFFFFFFFF
    bits_N = (bits_N ^ bits_N >> 15) * 0x85EBCA77 & 0xFFFFFFFF
    return bits_N ^ bits_N >> 13


def _sent(parts: tuple[str, ...], weights: dict[str, torch.Tensor], dtype: torch.dtype, ranks: Ranks) -> torch.Tensor:
    """This rank's part of the projection of stacked tensors, rounded to `dtype`, and of the sum of their squares: shape (2,)."""
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
    """The rows for which this rank answers, and the first one's place: those of its shard, or all of them on the first rank."""
    if isinstance(tensor, DTensor):
        assert tensor.placements == (Shard(0),), "FSDP shards by rows"
        each = -(-len(tensor) // ranks.size)
        return tensor.to_local(), min(ranks.rank * each, len(tensor))
    return (tensor if ranks.is_first else tensor[:0]), 0
