"""Which rank computes which sequences of a step, and log-probabilities of models that may be sharded over ranks.

All ranks know all sequences. Each lays out its own share in forward passes; since sharded weights are gathered in every pass, all ranks
make as many, the last ones of some without effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from transformers import PreTrainedModel

from models.distributed import Called, Ranks
from models.rl.logprobs import output_logprobs
from models.rl.sequences import SequenceBatch, lay_out

Scorer = PreTrainedModel | Called
"""A causal language model, or `Called(model, output_logprobs)`, which may be sharded."""


@dataclass(frozen=True)
class Pass:
    """A forward pass of this rank. One that does not count keeps step with the other ranks; its results are to be thrown away."""

    sequences: SequenceBatch
    counts: bool


def scored_logprobs(scorer: Scorer, batch: SequenceBatch, temperature: float) -> torch.Tensor:
    """`output_logprobs`, inside the forward pass of a model that may be sharded."""
    return scorer(batch, temperature) if isinstance(scorer, Called) else output_logprobs(scorer, batch, temperature)


def inner_model(scorer: Scorer) -> PreTrainedModel:
    """The language model itself."""
    return scorer.model if isinstance(scorer, Called) else scorer


def lay_out_share(
    prompts: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]], model: PreTrainedModel, token_budget: int, ranks: Ranks
) -> list[Pass]:
    """This rank's share of all sequences in forward passes (see `lay_out`), as many as the other ranks have."""
    if not outputs:
        return []
    lengths = [len(prompt) + len(output) for prompt, output in zip(prompts, outputs, strict=True)]
    own = own_share(lengths, ranks)
    passes = [
        Pass(replace(batch, members=[own.start + member for member in batch.members]), True)
        for batch in lay_out(prompts[own.start : own.stop], outputs[own.start : own.stop], model, token_budget)
    ]
    most = int(ranks.maximum(torch.tensor(len(passes))))
    if len(passes) < most:
        shortest = min(range(len(lengths)), key=lambda place: lengths[place])
        (idle,) = lay_out([prompts[shortest]], [outputs[shortest]], model, token_budget)
        passes += [Pass(replace(idle, members=[shortest]), False)] * (most - len(passes))
    return passes


def own_share(sizes: Sequence[int], ranks: Ranks) -> range:
    """The places of this rank: neighbours, so that outputs of a prompt stay together, of about as much in sum as the others have."""
    ends = list(accumulate(sizes))
    middles = [end - size / 2 for end, size in zip(ends, sizes, strict=True)]
    cut = [sum(middle * ranks.size < rank * ends[-1] for middle in middles) for rank in (ranks.rank, ranks.rank + 1)]
    return range(cut[0], cut[1])
