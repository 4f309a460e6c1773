"""The reward model: a token classifier with one label, read at the last token of a completion or of each of its steps (paper section 4.1).

A score is sigmoid(logit) in [0, 1]: the model's estimate that the answer is correct (last token) or can still be reached (end of a step).
Since scores are learned, the policy can find completions that score well and are wrong. So accuracy is always measured too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, cast

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.nn import functional
from transformers import PreTrainedModel

from mathquarry.models.config import Precision
from mathquarry.models.logprobs.sequences import SequenceBatch, lay_out
from mathquarry.models.ranks.distributed import Ranks, ShardedModel
from mathquarry.models.train.batches import Batch, model_inputs


class RewardModel:
    """Scores completions with a reward checkpoint that is on its device already. It may be sharded (`ShardedModel(model,
    token_logits)`)."""

    def __init__(self, model: PreTrainedModel | ShardedModel, micro_batch_tokens: int, precision: Precision = "float32") -> None:
        """`micro_batch_tokens` limits the padded tokens of one forward pass."""
        self._model = model if isinstance(model, ShardedModel) else ShardedModel(model, token_logits)
        self.model, self.micro_batch_tokens, self.precision = self._model.model, micro_batch_tokens, precision

    def score(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], step_ends: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """Return the scores of each completion at its `step_ends` (indices into the completion). For an outcome score, give the last index.

        Equal completions of a prompt are scored once, so their scores are bitwise equal. All ranks of a sharded model must call this, each
        with at least one completion.
        """
        places: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
        rows = [
            places.setdefault((tuple(prompt), tuple(completion)), len(places))
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        wanted: list[dict[int, float]] = [{} for _ in places]
        for row, ends in zip(rows, step_ends, strict=True):
            wanted[row] |= dict.fromkeys(ends, 0.0)
        self._fill(wanted, list(places))
        return [[wanted[row][end] for end in ends] for row, ends in zip(rows, step_ends, strict=True)]

    def _fill(self, wanted: list[dict[int, float]], sequences: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
        """Fill in the score at each requested position of the completion of each (prompt, completion)."""
        prompts, completions = [prompt for prompt, _ in sequences], [completion for _, completion in sequences]
        batches = lay_out(prompts, completions, self.model, self.micro_batch_tokens)
        sharded = isinstance(self._model, FSDPModule)
        # Sharded weights are gathered in every pass. So all ranks agree on the number of passes before the first one.
        passes = int(Ranks.current().maximum(torch.tensor(len(batches)))) if sharded else len(batches)
        for batch in batches:
            starts = accumulate((len(completions[member]) for member in batch.members), initial=0)
            places = [start + end for start, member in zip(starts, batch.members, strict=False) for end in wanted[member]]
            scores = iter(self._scores(batch, places))
            for member in batch.members:
                for end in wanted[member]:
                    wanted[member][end] = next(scores)
        for _ in range(passes - len(batches)):
            self._scores(min(batches, key=lambda batch: batch.input_ids_BT.numel()), [])

    def _scores(self, batch: SequenceBatch, places: list[int]) -> list[float]:
        """Return the scores at some of the completion tokens of a pass."""
        token_N = batch.token_N[torch.tensor(places, dtype=torch.int64, device=batch.token_N.device)]
        autocast = torch.autocast(self.model.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")
        with torch.no_grad(), autocast:
            return self._model(batch.model_inputs(), token_N).sigmoid().tolist()


def token_logits(model: PreTrainedModel, inputs: Mapping[str, Any], places_N: torch.Tensor) -> torch.Tensor:
    """Return the logits of a token classifier with one label at `places_N` of the flattened rows: logits_N (float32).

    The head is float32 even under autocast: bfloat16 has only 64 values between 4 and 8, so many scores in a group would be equal.
    """
    # use_cache: with a key-value cache, transformers ignores position ids, and examples in a row would see each other
    hidden_BTD = model.base_model(**{**inputs, "use_cache": False}).last_hidden_state
    hidden_ND = cast(nn.Module, model.dropout)(hidden_BTD.flatten(0, 1)[places_N])
    head = cast(nn.Linear, model.score)
    with torch.autocast(hidden_ND.device.type, enabled=False):
        return functional.linear(hidden_ND.float(), head.weight.float(), None if head.bias is None else head.bias.float())[:, 0]


def reward_loss(model: PreTrainedModel, batch: Batch, count: torch.Tensor) -> torch.Tensor:
    """Return the binary cross-entropy at the labelled tokens of packed rows, summed and divided by `count` (Math-Shepherd's loss).

    Labels are NaN where there is no loss. They can lie between 0 and 1 (soft labels).
    """
    logits_N = token_logits(model, model_inputs(model, batch), batch["labelled"])
    labels_N = batch["labels"].flatten()[batch["labelled"]]
    return functional.binary_cross_entropy_with_logits(logits_N, labels_N, reduction="sum") / count


def area_under_curve(scores: Sequence[float], right: Sequence[bool]) -> float | None:
    """Return the probability that a correct item scores above a wrong one; ties count half (ROC AUC). `None` without both kinds."""
    positives = sum(right)
    negatives = len(right) - positives
    if positives == 0 or negatives == 0:
        return None
    score_N, right_N = torch.tensor(scores, dtype=torch.float64), torch.tensor(right)
    _, place_N, count_V = score_N.unique(return_inverse=True, return_counts=True)
    # Equal scores get their mean rank: the ranks up to the group's end, minus half of the group.
    rank_N = (count_V.cumsum(0) - (count_V - 1) / 2)[place_N]
    return float((rank_N[right_N].sum() - positives * (positives + 1) / 2) / (positives * negatives))
