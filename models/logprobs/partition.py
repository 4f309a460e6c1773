"""Splits the sequences of a step over ranks, and computes log-probabilities with models that may be sharded over ranks.

All ranks know all sequences. Each lays out its own part in forward passes. Sharded weights are gathered in every pass, so all ranks make
the same number of passes; some ranks add passes without effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from transformers import PreTrainedModel

from mathquarry.models.logprobs.logprobs import completion_logprobs
from mathquarry.models.logprobs.sequences import SequenceBatch, lay_out
from mathquarry.models.ranks.distributed import Ranks, ShardedModel

PolicyModel = PreTrainedModel | ShardedModel
"""A causal language model, or `ShardedModel(model, completion_logprobs)`, which may be sharded."""


@dataclass(frozen=True)
class MicroBatch:
    """A forward pass of this rank. If it does not count, it only keeps step with the other ranks, and its results are discarded."""

    sequences: SequenceBatch
    counts: bool


def policy_logprobs(model: PolicyModel, batch: SequenceBatch, temperature: float) -> torch.Tensor:
    """Call `completion_logprobs` inside the forward pass of a model that may be sharded."""
    return model(batch, temperature) if isinstance(model, ShardedModel) else completion_logprobs(model, batch, temperature)


def inner_model(model: PolicyModel) -> PreTrainedModel:
    """Return the language model itself."""
    return model.model if isinstance(model, ShardedModel) else model


def lay_out_partition(
    prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], model: PreTrainedModel, token_budget: int, ranks: Ranks
) -> list[MicroBatch]:
    """Lay out this rank's part of all sequences in forward passes (see `lay_out`), as many as on the other ranks."""
    if not completions:
        return []
    lengths = [len(prompt) + len(completion) for prompt, completion in zip(prompts, completions, strict=True)]
    own = own_partition(lengths, ranks)
    passes = [
        MicroBatch(replace(batch, members=[own.start + member for member in batch.members]), True)
        for batch in lay_out(prompts[own.start : own.stop], completions[own.start : own.stop], model, token_budget)
    ]
    most = int(ranks.maximum(torch.tensor(len(passes))))
    if len(passes) < most:
        shortest = min(range(len(lengths)), key=lambda place: lengths[place])
        (idle,) = lay_out([prompts[shortest]], [completions[shortest]], model, token_budget)
        passes += [MicroBatch(replace(idle, members=[shortest]), False)] * (most - len(passes))
    return passes


def own_partition(sizes: Sequence[int], ranks: Ranks) -> range:
    """Return the indices of this rank's part: contiguous, to keep completions of a prompt together, and of about equal total size."""
    ends = list(accumulate(sizes))
    middles = [end - size / 2 for end, size in zip(ends, sizes, strict=True)]
    cut = [sum(middle * ranks.size < rank * ends[-1] for middle in middles) for rank in (ranks.rank, ranks.rank + 1)]
    return range(cut[0], cut[1])
