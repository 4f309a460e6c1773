"""Attention in rows that hold several documents, or prompts with their completions, without a mask over all pairs of tokens.

A row is a sequence of spans: documents, prompts or completions. A token attends to the earlier tokens of its span, and to the whole prefix
of the span if it has one: a completion's prefix is its prompt. So work and memory grow with the spans' lengths, not with the square of the
row's length.

`use_attention(model, "documents")` makes a model attend by spans if its forward pass gets `Spans`, through transformers' registry of
attention functions. Without spans (generation) it uses SDPA as before. On a GPU in half precision, it uses PyTorch's FlashAttention for
variable lengths (`torch.nn.attention.varlen`). Otherwise it makes one SDPA call per span, which on a CPU is faster than a single call with
a mask.

Shape suffixes: B rows, T tokens of a row, N tokens of all rows, K keys of all spans, H heads, E head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from mathquarry.data.errors import MathQuarryError
from mathquarry.models.policy.config import AttentionImplementation

DOCUMENTS = "documents"
"""Name of this attention function in transformers' registry."""

LARGEST_HEAD = 256
"""Largest head size that FlashAttention supports."""

_UNKNOWN = ("sliding_window", "softcap", "position_bias", "s_aux")
"""Arguments with which some models change attention in ways that are not supported here."""


@dataclass(frozen=True)
class _Sequences:
    """`Spans` in the form that a kernel for variable lengths takes."""

    query_ends: torch.Tensor  # cumulative lengths, starting at 0, int32
    key_ends: torch.Tensor
    key_places_K: torch.Tensor | None  # positions in the flattened rows; None if they are all positions in order
    longest_query: int
    longest_key: int


class Spans:
    """Consecutive spans that fill `rows` rows of equal length. Lengths are plain integers, so no pass has to wait for a GPU."""

    def __init__(self, lengths: Sequence[int], prefixes: Sequence[int | None] | None = None, rows: int = 1) -> None:
        """`prefixes[i]` is the index of the span that all of span i attends to: an earlier one in its row. Spans must not be empty."""
        self.lengths = list(lengths)
        self.prefixes: list[int | None] = [None] * len(self.lengths) if prefixes is None else list(prefixes)
        self.rows = rows
        self._sequences: dict[torch.device, _Sequences] = {}

    def mask(self, device: torch.device) -> torch.Tensor:
        """Return the attention mask, (B, 1, T, T), made on `device` from two integers per token: its span, and its span's prefix."""
        lengths = torch.tensor(self.lengths, device=device)
        prefixes = torch.tensor([-1 if prefix is None else prefix for prefix in self.prefixes], device=device)
        own_BT, prefix_BT = (
            values.repeat_interleave(lengths, output_size=sum(self.lengths)).view(self.rows, -1)
            for values in (torch.arange(len(self.lengths), device=device), prefixes)
        )
        key_B1T = own_BT[:, None, :]
        return ((own_BT[:, :, None] == key_B1T) | (prefix_BT[:, :, None] == key_B1T)).tril_()[:, None]

    def sequences(self, device: torch.device) -> _Sequences:
        """Return queries and keys of each span. Cached per device."""
        if device not in self._sequences:
            self._sequences[device] = self._make_sequences(device)
        return self._sequences[device]

    def _make_sequences(self, device: torch.device) -> _Sequences:
        lengths = np.array(self.lengths)
        starts = lengths.cumsum() - lengths
        keys = [
            length + (0 if prefix is None else self.lengths[prefix]) for length, prefix in zip(self.lengths, self.prefixes, strict=True)
        ]
        places_K = None
        if keys != self.lengths:
            seen = [span for i, prefix in enumerate(self.prefixes) for span in ([i] if prefix is None else [prefix, i])]
            places_K = torch.tensor(np.concatenate([np.arange(starts[i], starts[i] + lengths[i]) for i in seen]), device=device)
        return _Sequences(_ends(self.lengths, device), _ends(keys, device), places_K, max(self.lengths), max(keys))


def use_attention(model: PreTrainedModel, implementation: AttentionImplementation) -> str:
    """Make `model` compute attention with `implementation`. Returns the name of the one before, for `restore_attention`.

    `documents` has no effect on a model whose attention is not plain SDPA over all earlier tokens (sliding windows, its own kernels): it
    keeps its own attention, with masks. Raises `MathQuarryError` if FlashAttention is requested and is not installed or cannot run here.
    """
    before = str(model.config._attn_implementation)
    if implementation == DOCUMENTS and not _is_plain(model):
        return before
    try:
        model.set_attn_implementation(implementation)
    except (ImportError, ValueError) as error:
        raise MathQuarryError(
            f"attn_implementation is `{implementation}`, which does not work here: {str(error).splitlines()[0]} Set it to `documents`."
        ) from error
    return before


def restore_attention(model: PreTrainedModel, before: str) -> None:
    """Undo `use_attention`."""
    model.set_attn_implementation(before)


def attends_by_spans(model: PreTrainedModel) -> bool:
    """Whether the model's forward passes take `Spans`."""
    return model.config._attn_implementation == DOCUMENTS


def span_inputs(spans: Spans, device: torch.device) -> dict[str, Any]:
    """Return the keyword arguments with which to call a model that attends by spans."""
    # A four-dimensional mask is passed on unchanged, so transformers does not build one. This mask is empty.
    return {"attention_mask": torch.empty(spans.rows, 1, 0, 0, dtype=torch.bool, device=device), "spans": spans}


def is_windowed(model: PreTrainedModel) -> bool:
    """Whether some layers do not see all earlier tokens. A sliding window is a mask that the model makes itself."""
    shape = model.config.get_text_config()
    kinds = set(getattr(shape, "layer_types", None) or ["full_attention"])
    return kinds != {"full_attention"} or bool(getattr(shape, "sliding_window", None))


def _is_plain(model: PreTrainedModel) -> bool:
    softcap = getattr(model.config.get_text_config(), "attn_logit_softcapping", None)
    known = model.config._attn_implementation in ("sdpa", DOCUMENTS) and model._supports_attention_backend
    return bool(known) and not is_windowed(model) and not softcap


@torch.compiler.disable  # lengths differ in every pass, so it would be recompiled each time
def _attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    spans: Spans | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention function with transformers' signature: query (B, H, T, E) in, (B, T, H, E) out."""
    if spans is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **others)
    if found := [name for name in _UNKNOWN if others.get(name) is not None]:
        raise MathQuarryError(
            f"{type(module).__name__} uses {found[0]}, which `documents` attention does not support. Set attn_implementation to `sdpa`."
        )
    batch, _, tokens, _ = query.shape
    if query.is_cuda and torch.is_autocast_enabled("cuda"):
        dtype = torch.get_autocast_dtype("cuda")
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    flash = query.is_cuda and query.dtype in (torch.bfloat16, torch.float16) and query.shape[-1] <= LARGEST_HEAD and dropout == 0.0
    if flash:
        query, key, value = (part.transpose(1, 2).flatten(0, 1) for part in (query, key, value))
        out_NHE = _varlen(query, key, value, scaling, spans.sequences(query.device))
    else:
        query, key, value = (part.transpose(0, 1).flatten(1, 2) for part in (query, key, value))
        out_NHE = _by_span(query, key, value, dropout, scaling, spans)
    return out_NHE.view(batch, tokens, *out_NHE.shape[1:]), None


def _varlen(
    query_NHE: torch.Tensor, key_NHE: torch.Tensor, value_NHE: torch.Tensor, scaling: float | None, sequences: _Sequences
) -> torch.Tensor:
    if sequences.key_places_K is not None:
        key_NHE, value_NHE = key_NHE[sequences.key_places_K], value_NHE[sequences.key_places_K]
    # The last query of a span sees its last key. So the extra keys before its queries (the prefix) are seen by all its queries.
    out = varlen_attn(
        query_NHE,
        key_NHE,
        value_NHE,
        sequences.query_ends,
        sequences.key_ends,
        sequences.longest_query,
        sequences.longest_key,
        scale=scaling,
        window_size=(-1, 0),
        enable_gqa=query_NHE.shape[1] != key_NHE.shape[1],
    )
    assert isinstance(out, torch.Tensor)
    return out


def _by_span(
    query_HNE: torch.Tensor, key_HNE: torch.Tensor, value_HNE: torch.Tensor, dropout: float, scaling: float | None, spans: Spans
) -> torch.Tensor:
    # split instead of slices: the gradient of a slice is as large as the tensor that it was cut from
    keys, values = key_HNE.split(spans.lengths, dim=1), value_HNE.split(spans.lengths, dim=1)
    grouped = len(query_HNE) != len(key_HNE)
    pieces = []
    for query_HQE, key_HKE, value_HKE, prefix in zip(query_HNE.split(spans.lengths, dim=1), keys, values, spans.prefixes, strict=True):
        mask_QK = None
        if prefix is not None:
            key_HKE, value_HKE = torch.cat([keys[prefix], key_HKE], dim=1), torch.cat([values[prefix], value_HKE], dim=1)
            size = (query_HQE.shape[1], key_HKE.shape[1])
            mask_QK = torch.ones(size, dtype=torch.bool, device=query_HQE.device).tril_(size[1] - size[0])
        attended = scaled_dot_product_attention(
            query_HQE[None],
            key_HKE[None],
            value_HKE[None],
            attn_mask=mask_QK,
            dropout_p=dropout,
            is_causal=mask_QK is None,
            scale=scaling,
            enable_gqa=grouped,
        )
        pieces.append(attended[0].transpose(0, 1))
    return torch.cat(pieces)


def _ends(lengths: Sequence[int], device: torch.device) -> torch.Tensor:
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)


AttentionInterface.register(DOCUMENTS, _attend)
AttentionMaskInterface.register(DOCUMENTS, sdpa_mask)
