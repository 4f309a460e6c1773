"""Log-probabilities of output tokens under a causal language model.

Shape suffixes: B rows, T tokens, N output tokens, D hidden.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from models.head import head_logprobs
from models.rl.sequences import SequenceBatch


def output_logprobs(model: PreTrainedModel, batch: SequenceBatch, temperature: float = 1.0) -> torch.Tensor:
    """Log-probability of every output token given all tokens before it: logprobs_N (float32), with gradient where it is enabled.

    `temperature` divides the logits, so that it is the sampling distribution whose probabilities these are. Every prompt needs a token.
    """
    # use_cache: with a key-value cache, transformers does not look at position ids, and sequences of a row would see each other
    hidden_BTD = model.base_model(**batch.model_inputs(), use_cache=False).last_hidden_state
    hidden_ND = hidden_BTD.flatten(0, 1)[batch.predictor_N]
    return head_logprobs(hidden_ND, model.get_output_embeddings(), batch.input_ids_BT.flatten()[batch.token_N], temperature)
