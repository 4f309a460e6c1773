"""The language-model head without ever holding all logits.

Shape suffixes: N tokens, C tokens of a chunk, D hidden, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

CHUNK_LOGITS = 1 << 24
"""Logits held at once: 64 MiB of float32. Larger chunks are no faster (measured on a CPU), smaller ones are."""


def head_logprobs(
    hidden_ND: torch.Tensor,
    head: nn.Linear,
    targets_N: torch.Tensor,
    temperature: float = 1.0,
    chunk_logits: int = CHUNK_LOGITS,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """log softmax(head(hidden) / temperature)[target], in chunks of at most `chunk_logits` logits; their logits are computed again for
    the gradient.

    By default the head runs in float32 also under autocast and with bfloat16 weights: log-probabilities of trainer and rollout engine are
    compared and their ratio is trained on, and bfloat16 logits are too coarse for that. `dtype` is that of its matrix products; softmax
    and the sum of all chunks' gradients are float32 in any case.
    """
    rows = max(1, chunk_logits // head.weight.shape[0])
    return _HeadLogprobs.apply(hidden_ND, head.weight, head.bias, targets_N, temperature, rows, dtype)


class _HeadLogprobs(torch.autograd.Function):
    """d log p[target] / d logits = (onehot(target) - p) / temperature; only log sum exp is kept for it."""

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
                torch.logsumexp(logits_CV, dim=-1, out=log_sums_N[chunk])
                logprobs_N[chunk] = logits_CV.gather(1, targets_N[chunk, None])[:, 0] - log_sums_N[chunk]
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
                    d_hidden_ND[chunk] = (d_logits_CV @ cast_VD).to(d_hidden_ND.dtype)
                if d_weight_VD is not None:
                    _add_product(d_weight_VD, d_logits_CV.T, hidden_ND[chunk].to(cast_VD.dtype))
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
    logits_CV = functional.linear(hidden_CD.to(weight_VD.dtype), weight_VD, bias_V)
    logits_CV = logits_CV.to(_wide(logits_CV.dtype))
    return logits_CV if temperature == 1.0 else logits_CV.div_(temperature)


def _add_product(total_VD: torch.Tensor, left_VC: torch.Tensor, right_CD: torch.Tensor) -> None:
    if total_VD.dtype == left_VC.dtype:
        total_VD.addmm_(left_VC, right_CD)
    else:
        total_VD += left_VC @ right_CD


def _cast(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.to(dtype)


def _wide(dtype: torch.dtype) -> torch.dtype:
    """At least float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32
