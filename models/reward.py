"""The reward model: a token classifier with one label, read at the last token of an output or of each of its steps (paper section 4.1).

A score is sigmoid(logit), the model's estimate that the answer is right (last token) or still within reach (end of a step). It lies in
[0, 1], and is learned: the policy can find outputs that score well and are wrong, so the true accuracy is always measured beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from models.config import Precision
from models.rl.sequences import lay_out
from models.train import Batch


class RewardModel:
    """Scores outputs with a reward checkpoint that is already on its device."""

    def __init__(self, model: PreTrainedModel, micro_batch_tokens: int, precision: Precision = "float32") -> None:
        """`micro_batch_tokens` bounds the padded tokens of one forward pass."""
        self.model, self.micro_batch_tokens, self.precision = model, micro_batch_tokens, precision

    def score(
        self, prompts: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]], step_ends: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """Scores of each output at its `step_ends` (indices into the output); for an outcome score give the last index alone.

        Equal outputs of one prompt are scored once, so their scores are equal to the last bit.
        """
        places: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
        rows = [places.setdefault((tuple(prompt), tuple(output)), len(places)) for prompt, output in zip(prompts, outputs, strict=True)]
        scores = self._token_scores(list(places))
        return [[scores[row][end] for end in ends] for row, ends in zip(rows, step_ends, strict=True)]

    def _token_scores(self, sequences: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> list[list[float]]:
        """Scores of all tokens of the output of each (prompt, output)."""
        scores: list[list[float]] = [[] for _ in sequences]
        prompts, outputs = [prompt for prompt, _ in sequences], [output for _, output in sequences]
        for batch in lay_out(prompts, outputs, self.model, self.micro_batch_tokens):
            autocast = torch.autocast(self.model.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")
            with torch.no_grad(), autocast:
                logits_BT = self.model(**batch.model_inputs(), use_cache=False).logits[..., 0]
            all_scores = logits_BT.float().sigmoid().flatten()[batch.token_N].split([len(outputs[member]) for member in batch.members])
            for member, token_scores in zip(batch.members, all_scores, strict=True):
                scores[member] = token_scores.tolist()
        return scores


def reward_loss(model: PreTrainedModel, batch: Batch, count: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy at the labelled tokens of packed rows, summed and divided by `count` (Math-Shepherd's loss).

    Labels are NaN where there is no loss, and may lie between 0 and 1 (soft estimates).
    """
    # use_cache: with a key-value cache, transformers does not look at position ids and examples of a row would see each other
    logits_BT = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits[..., 0].float()
    labelled_BT = ~batch["labels"].isnan()
    return functional.binary_cross_entropy_with_logits(logits_BT[labelled_BT], batch["labels"][labelled_BT], reduction="sum") / count


def area_under_curve(scores: Sequence[float], right: Sequence[bool]) -> float | None:
    """Probability that a right item scores above a wrong one, ties counting half (ROC AUC); `None` unless there are both kinds."""
    positives = sum(right)
    negatives = len(right) - positives
    if positives == 0 or negatives == 0:
        return None
    score_N, right_N = torch.tensor(scores, dtype=torch.float64), torch.tensor(right)
    _, place_N, count_V = score_N.unique(return_inverse=True, return_counts=True)
    # Mean rank of equal scores: the ranks up to the group's end, less half of the group.
    rank_N = (count_V.cumsum(0) - (count_V - 1) / 2)[place_N]
    return float((rank_N[right_N].sum() - positives * (positives + 1) / 2) / (positives * negatives))
