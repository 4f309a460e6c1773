"""Log-probabilities of output tokens under a causal language model, without ever holding all logits.

Shape suffixes: B sequences, T tokens, N output tokens of all sequences in row order, D hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

CHUNK_LOGITS = 1 << 26
"""Logits held at once: 256 MiB of float32."""


@dataclass(frozen=True)
class SequenceBatch:
    """Prompt + output sequences, padded on the right. `is_output_BT` marks the output tokens; their order is that of N.

    There is no attention mask: in a causal model no token sees the padding behind it, and attention without a mask is faster.
    """

    input_ids_BT: torch.Tensor
    is_output_BT: torch.Tensor

    @classmethod
    def pad(cls, prompts: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]], device: torch.device) -> SequenceBatch:
        """Put prompts and outputs together. Padding is token 0."""
        longest = max(len(prompt) + len(output) for prompt, output in zip(prompts, outputs, strict=True))
        ids_BT = torch.zeros(len(prompts), longest, dtype=torch.long)
        is_output_BT = torch.zeros(len(prompts), longest, dtype=torch.bool)
        for row, (prompt, output) in enumerate(zip(prompts, outputs, strict=True)):
            end = len(prompt) + len(output)
            ids_BT[row, :end] = torch.tensor([*prompt, *output])
            is_output_BT[row, len(prompt) : end] = True
        return cls(ids_BT.to(device), is_output_BT.to(device))


def output_logprobs(model: PreTrainedModel, batch: SequenceBatch, temperature: float = 1.0) -> torch.Tensor:
    """Log-probability of every output token given all tokens before it: logprobs_N (float32), with gradient where it is enabled.

    `temperature` divides the logits, so that it is the sampling distribution whose probabilities these are. Every prompt needs a token.
    """
    hidden_BTD = model.base_model(input_ids=batch.input_ids_BT, use_cache=False).last_hidden_state
    is_next_BT = batch.is_output_BT[:, 1:]
    return head_logprobs(hidden_BTD[:, :-1][is_next_BT], model.get_output_embeddings(), batch.input_ids_BT[:, 1:][is_next_BT], temperature)


def head_logprobs(
    hidden_ND: torch.Tensor, head: nn.Linear, targets_N: torch.Tensor, temperature: float = 1.0, chunk_logits: int = CHUNK_LOGITS
) -> torch.Tensor:
    """log softmax(head(hidden) / temperature)[target], in chunks of at most `chunk_logits` logits.

    The head runs in float32 also under autocast: log-probabilities of trainer and rollout engine are compared and their ratio is trained
    on, and bfloat16 logits are too coarse for that. With several chunks each one's logits are computed again for its gradient.
    """
    weight_VD, bias_V = head.weight, head.bias
    rows = max(1, chunk_logits // weight_VD.shape[0])
    chunks = list(zip(hidden_ND.split(rows), targets_N.split(rows), strict=True))
    if len(chunks) == 1:
        return _chunk_logprobs(hidden_ND, weight_VD, bias_V, targets_N, temperature)
    return torch.cat(
        [
            checkpoint(_chunk_logprobs, hidden_CD, weight_VD, bias_V, targets_C, temperature, use_reentrant=False)
            for hidden_CD, targets_C in chunks
        ]
    )


def _chunk_logprobs(
    hidden_CD: torch.Tensor, weight_VD: torch.Tensor, bias_V: torch.Tensor | None, targets_C: torch.Tensor, temperature: float
) -> torch.Tensor:
    with torch.autocast(hidden_CD.device.type, enabled=False):
        logits_CV = functional.linear(hidden_CD.float(), weight_VD.float(), None if bias_V is None else bias_V.float())
        if temperature != 1.0:
            logits_CV = logits_CV / temperature
        return -functional.cross_entropy(logits_CV, targets_C, reduction="none")
