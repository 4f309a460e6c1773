"""Log-probabilities from the language-model head, computed in chunks so that the full logits are never in memory.

Shape suffixes: N tokens, C tokens of a chunk, D hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from mathquarry.models.card import SLICE_ROWS, card_memory
from mathquarry.models.card import chunk_logits as default_chunk


def head_logprobs(
    hidden_ND: torch.Tensor,
    head: nn.Linear,
    targets_N: torch.Tensor,
    temperature: float = 1.0,
    chunk_logits: int | None = None,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Return log softmax(head(hidden) / temperature)[target], in chunks of at most `chunk_logits` logits (default: by the device). The
    backward pass computes the logits again.

    `dtype` is the dtype of the factors of matrix products: by default autocast's if it is on, else float32. Products are accumulated in
    float32. Logits, softmax and the gradients summed over chunks are always float32: log-probabilities of trainer and rollout engine are
    compared, and their ratio is trained on, so bfloat16 logits would be too coarse.
    """
    kind = hidden_ND.device.type
    if dtype is None:
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
    rows = max(1, (chunk_logits or default_chunk(card_memory(hidden_ND.device))) // head.weight.shape[0])
    return _HeadLogprobs.apply(hidden_ND, head.weight, head.bias, targets_N, temperature, rows, dtype)


class _HeadLogprobs(torch.autograd.Function):
    """d log p[target] / d logits = (onehot(target) - p) / temperature. Only log sum exp is saved for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: torch.Tensor | None,
        targets_N: torch.Tensor,
        temperature: float,
        rows: int,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        with torch.autocast(hidden_ND.device.type, enabled=False):
            cast_VD, cast_V = _cast(weight_VD, dtype), None if bias_V is None else _cast(bias_V, dtype)
            logprobs_N = torch.empty(len(targets_N), dtype=_wide(weight_VD.dtype), device=hidden_ND.device)
            log_sums_N = torch.empty_like(logprobs_N)
            for start in range(0, len(targets_N), rows):
                chunk = slice(start, start + rows)
                logits_CV = _logits(hidden_ND[chunk], cast_VD, cast_V, temperature)
                chosen_C = logits_CV.gather(1, targets_N[chunk, None])[:, 0]
                largest_C = logits_CV.amax(dim=-1)
                # In place: torch.logsumexp would hold a second tensor of this size.
                log_sums_N[chunk] = logits_CV.sub_(largest_C[:, None]).exp_().sum(dim=-1).log_().add_(largest_C)
                logprobs_N[chunk] = chosen_C - log_sums_N[chunk]
                del logits_CV
        ctx.save_for_backward(hidden_ND, weight_VD, bias_V, targets_N, log_sums_N)
        ctx.temperature, ctx.rows, ctx.dtype = temperature, rows, dtype
        return logprobs_N

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden_ND, weight_VD, bias_V, targets_N, log_sums_N = ctx.saved_tensors
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        scale_N = gradients[0] / ctx.temperature
        with torch.autocast(hidden_ND.device.type, enabled=False):
            cast_VD, cast_V = _cast(weight_VD, ctx.dtype), None if bias_V is None else _cast(bias_V, ctx.dtype)
            d_hidden_ND = torch.empty_like(hidden_ND) if needs_hidden else None
            d_weight_VD = torch.zeros_like(weight_VD, dtype=_wide(weight_VD.dtype)) if needs_weight else None
            d_bias_V = torch.zeros_like(bias_V, dtype=_wide(bias_V.dtype)) if bias_V is not None and needs_bias else None
            for start in range(0, len(targets_N), ctx.rows):
                chunk = slice(start, start + ctx.rows)
                d_logits_CV = _logits(hidden_ND[chunk], cast_VD, cast_V, ctx.temperature)
                d_logits_CV.sub_(log_sums_N[chunk, None]).exp_().mul_(-scale_N[chunk, None])
                d_logits_CV.scatter_add_(1, targets_N[chunk, None], scale_N[chunk, None])
                if d_bias_V is not None:
                    d_bias_V += d_logits_CV.sum(dim=0)
                d_logits_CV = d_logits_CV.to(cast_VD.dtype)
                if d_hidden_ND is not None:
                    d_hidden_ND[chunk] = _summed_product(d_logits_CV, cast_VD).to(d_hidden_ND.dtype)
                if d_weight_VD is not None:
                    _add_product(d_weight_VD, d_logits_CV, hidden_ND[chunk].to(cast_VD.dtype))
                del d_logits_CV
        return (
            d_hidden_ND,
            None if d_weight_VD is None else d_weight_VD.to(weight_VD.dtype),
            None if d_bias_V is None else d_bias_V.to(bias_V.dtype),
            None,
            None,
            None,
            None,
        )


def _logits(hidden_CD: torch.Tensor, weight_VD: torch.Tensor, bias_V: torch.Tensor | None, temperature: float) -> torch.Tensor:
    hidden_CD = hidden_CD.to(weight_VD.dtype)
    if _is_wide(weight_VD.dtype):
        logits_CV = functional.linear(hidden_CD, weight_VD, bias_V)
    else:
        logits_CV = torch.empty(len(hidden_CD), len(weight_VD), dtype=torch.float32, device=hidden_CD.device)
        for rows in _slices(weight_VD):
            logits_CV[:, rows] = _product(hidden_CD, weight_VD[rows].T)
        if bias_V is not None:
            logits_CV += bias_V
    return logits_CV if temperature == 1.0 else logits_CV.div_(temperature)


def _summed_product(left_CV: torch.Tensor, right_VD: torch.Tensor) -> torch.Tensor:
    """Return left right, in float32 or wider."""
    if _is_wide(left_CV.dtype):
        return left_CV @ right_VD
    total_CD = torch.zeros(len(left_CV), right_VD.shape[1], dtype=torch.float32, device=left_CV.device)
    for rows in _slices(right_VD):
        total_CD += _product(left_CV[:, rows], right_VD[rows])
    return total_CD


def _add_product(total_VD: torch.Tensor, left_CV: torch.Tensor, right_CD: torch.Tensor) -> None:
    """Add left^T right to `total_VD`."""
    if _is_wide(left_CV.dtype):
        total_VD.addmm_(left_CV.T, right_CD)
        return
    for rows in _slices(total_VD):
        total_VD[rows] += _product(left_CV[:, rows].T, right_CD)


def _product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Multiply narrower factors into a float32 product: GPUs accumulate in float32 anyway, but CPU kernels would round the result."""
    return torch.mm(left, right, out_dtype=torch.float32) if left.is_cuda else left.float() @ right.float()


def _slices(weight_VD: torch.Tensor) -> Iterator[slice]:
    return (slice(start, start + SLICE_ROWS) for start in range(0, len(weight_VD), SLICE_ROWS))


def _cast(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.to(dtype)


def _is_wide(dtype: torch.dtype) -> bool:
    return dtype in (torch.float32, torch.float64)


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype, or float32 if it is narrower."""
    return torch.float64 if dtype == torch.float64 else torch.float32
