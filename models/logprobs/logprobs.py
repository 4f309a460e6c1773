"""Log-probabilities of completion tokens under a causal language model.

Shape suffixes: B rows, T tokens, N completion tokens, D hidden.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from mathquarry.models.logprobs.head import head_logprobs
from mathquarry.models.logprobs.sequences import SequenceBatch


def completion_logprobs(model: PreTrainedModel, batch: SequenceBatch, temperature: float = 1.0) -> torch.Tensor:
    """Return the log-probability of every completion token given all tokens before it: logprobs_N (float32), with gradients if enabled.

    The logits are divided by `temperature`, so these are the probabilities of the sampling distribution. Every prompt needs a token.
    """
    # use_cache: with a key-value cache, transformers ignores position ids, and sequences in a row would see each other
    hidden_BTD = model.base_model(**batch.model_inputs(), use_cache=False).last_hidden_state
    hidden_ND = hidden_BTD.flatten(0, 1)[batch.predictor_N]
    return head_logprobs(hidden_ND, model.get_output_embeddings(), batch.input_ids_BT.flatten()[batch.token_N], temperature)
