"""The policy updates of one step: mu gradient steps on one batch of completions (paper Algorithm 1, lines 9 and 10)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from mathquarry.data.errors import MathQuarryError
from mathquarry.models.logprobs.partition import PolicyModel, inner_model, lay_out_partition, policy_logprobs
from mathquarry.models.logprobs.sequences import SequenceBatch, only
from mathquarry.models.memory import pass_tokens
from mathquarry.models.ranks.distributed import Ranks, clip_gradients, recomputed, reshard
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rl.objectives import (
    engine_weights,
    grpo_token_loss,
    kl_estimate,
    likelihood_token_loss,
    policy_ratios,
    token_weights,
)
from mathquarry.models.train.offload import OffloadedAdamW


@dataclass(frozen=True)
class Experience:
    """The data of one optimizer step: completions with the gradient coefficient of each of their tokens."""

    prompts: Sequence[Sequence[int]]
    completions: Sequence[Sequence[int]]
    advantages_BT: torch.Tensor  # T: the longest completion; values after a completion's end are not used
    rollout_logprobs: Sequence[Sequence[float]] | None = None  # log-probabilities with which the engine drew the tokens
    learned: Sequence[bool] | None = None  # which completions have a loss; the others still count in divisors. None: all
    masks: Sequence[Sequence[int]] | None = None  # 1 if the policy drew the token, 0 if it only read it; None: it drew all

    @cached_property
    def advantages(self) -> list[np.ndarray]:
        """Return the advantages of the drawn tokens of each completion."""
        table_BT = self.advantages_BT.numpy()
        if self.masks is not None:
            return [row_T[np.flatnonzero(mask)] for row_T, mask in zip(table_BT, self.masks, strict=True)]
        return [row_T[: len(completion)] for row_T, completion in zip(table_BT, self.completions, strict=True)]

    def drawn_with(self, row: int) -> torch.Tensor:
        """Return the engine's log-probabilities of the drawn tokens of one completion."""
        assert self.rollout_logprobs is not None, "the engine's log-probabilities are known"
        logprobs_T = torch.tensor(self.rollout_logprobs[row])
        return logprobs_T if self.masks is None else logprobs_T[torch.tensor(self.masks[row]) != 0]


@dataclass
class _MicroBatch:
    """Distinct sequences of one forward pass, with `copies_N` of each in the experience; none in a pass that does not count.

    Vectors run over the N completion tokens. `weights_N` is the weight of all copies together. `old_N` and `reference_N` are set in the
    first update.
    """

    sequences: SequenceBatch
    lengths: list[int]
    advantages_N: torch.Tensor
    weights_N: torch.Tensor
    copies_N: torch.Tensor
    engine_N: torch.Tensor | None
    old_N: torch.Tensor | None = None
    reference_N: torch.Tensor | None = None


def make_optimizer(model: nn.Module, config: GRPOConfig, learning_rate: float | None = None) -> torch.optim.Optimizer:
    """Return AdamW with a constant learning rate: that of the config, unless another is given."""
    kind = OffloadedAdamW if config.optimizer.offload else torch.optim.AdamW
    return kind(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=learning_rate or config.learning_rate,
        betas=(config.optimizer.beta1, config.optimizer.beta2),
        weight_decay=config.optimizer.weight_decay,
        fused=True,
    )


def update_policy(
    policy: PolicyModel, reference: PolicyModel, optimizer: torch.optim.Optimizer, experience: Experience, config: GRPOConfig
) -> dict[str, float | None]:
    """Make `config.num_updates` gradient steps on all completions of `experience`. The policy changes in place.

    pi_old is the policy at the start: its log-probabilities are those of the first update, so they need no extra pass, and with one update
    the ratio is 1. The reference's log-probabilities are computed once, and only if there is a KL term. Without a KL term, completions
    whose coefficients are all 0 have no gradient and are skipped. The gradient is that of the whole step, whatever the number of forward
    passes (`micro_batch_tokens`) and ranks. Each rank is called with the whole experience, computes its part, and returns the metrics of
    the whole.

    Returns metrics of the last update: loss, kl (Eq. 4, weighted as in the loss; `None` if it was not computed), clip_fraction (share of
    tokens whose gradient is clipped, or with `cispo` their weight), clip_fraction_high and _low (those above and below), ratio_mean,
    ratio_min, ratio_max, mismatch_mean and mismatch_largest (|log-probability by trainer - by engine|, before the first update),
    mismatch_dropped (share of tokens that `tis_mask` drops) and gradient_norm (before clipping). Raises `MathQuarryError` if the gradient
    is not finite.
    """
    ranks = Ranks.current()
    batches = list(_micro_batches(experience, policy, config, ranks))
    metrics: dict[str, float | None] = {"loss": 0.0, "gradient_norm": 0.0}
    for update in range(config.num_updates if batches else 0):
        optimizer.zero_grad(set_to_none=True)
        with recomputed(inner_model(policy), config.gradient_checkpointing):
            tallies = [_backward(policy, reference, batch, config) for batch in batches]
        norm = clip_gradients(policy.parameters(), config.optimizer.grad_clip)
        if not math.isfinite(norm):
            raise MathQuarryError(
                f"update {update + 1} of a GRPO step has gradient norm {norm}. Lower grpo.learning_rate or raise kl_coef."
            )
        optimizer.step()
        first = metrics if update else {}
        metrics = {**_summarise(tallies, batches, config.tis_mask != "none", ranks), "gradient_norm": norm}
        # Later updates differ from the engine because of training, not because the engine is wrong.
        metrics |= {name: value for name, value in first.items() if name.startswith("mismatch")}
    optimizer.zero_grad(set_to_none=True)
    return metrics


def sequence_logprobs(
    model: PolicyModel, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], config: GRPOConfig
) -> list[torch.Tensor]:
    """Return log-probabilities of completion tokens at the sampling temperature, without gradients, on the CPU. Ranks share the work."""
    ranks = Ranks.current()
    own: dict[int, torch.Tensor] = {}
    for one in lay_out_partition(prompts, completions, inner_model(model), pass_tokens(config, inner_model(model)), ranks):
        batch = one.sequences
        with torch.no_grad(), autocast(inner_model(model), config):
            logprobs_N = policy_logprobs(model, batch, config.rollout.temperature).cpu()
        if one.counts:
            own |= zip(batch.members, logprobs_N.split([len(completions[member]) for member in batch.members]), strict=True)
    reshard(model)
    found = {member: logprobs_T for share in ranks.gather(own) for member, logprobs_T in share.items()}
    return [found[place] for place in range(len(completions))]


def has_kl_loss(config: GRPOConfig) -> bool:
    """Whether the loss has a KL term."""
    return config.kl_place == "loss" and config.kl_coef > 0


def autocast(model: PreTrainedModel, config: GRPOConfig) -> AbstractContextManager:
    """Return the autocast context of forward passes."""
    return torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=config.precision == "bfloat16")


def _micro_batches(experience: Experience, policy: PolicyModel, config: GRPOConfig, ranks: Ranks) -> Iterator[_MicroBatch]:
    """Lay out this rank's part of the experience in forward passes.

    Tokens that the policy only read have no loss. Equal completions of a question with equal advantages are computed once, with the weight
    of all copies. The sum over completions is the same. For a small or well-trained policy, which repeats itself a lot, this saves most of
    the work.
    """
    lengths = [len(advantages_T) for advantages_T in experience.advantages]
    learned = experience.learned or [True] * len(lengths)
    learned_lengths = [length if counts else 0 for length, counts in zip(lengths, learned, strict=True)]
    weights = token_weights(learned_lengths, config.loss_normalisation, config.rollout.max_tokens)
    masks = experience.masks
    copies: dict[tuple[tuple[int, ...], tuple[int, ...], bytes, bytes], list[int]] = {}
    for row, (prompt, completion, advantages_T) in enumerate(
        zip(experience.prompts, experience.completions, experience.advantages, strict=True)
    ):
        if learned[row] and (has_kl_loss(config) or advantages_T.any()):
            mask = b"" if masks is None else bytes(masks[row])
            copies.setdefault((tuple(prompt), tuple(completion), mask, advantages_T.tobytes()), []).append(row)
    groups = list(copies.values())
    firsts = [group[0] for group in groups]
    prompts, completions = [experience.prompts[row] for row in firsts], [experience.completions[row] for row in firsts]
    model = inner_model(policy)
    for one in lay_out_partition(prompts, completions, model, pass_tokens(config, model), ranks):
        members = one.sequences.members
        rows = [firsts[place] for place in members]
        count_N = torch.cat([torch.full((lengths[firsts[place]],), float(one.counts * len(groups[place]))) for place in members])
        yield _MicroBatch(
            one.sequences if masks is None else only(one.sequences, [masks[row] for row in firsts]),
            [lengths[row] for row in rows],
            torch.cat([torch.from_numpy(experience.advantages[row]) for row in rows]).to(model.device),
            (count_N * torch.cat([torch.full((lengths[row],), weights[row]) for row in rows])).to(model.device),
            count_N.to(model.device),
            None if experience.rollout_logprobs is None else torch.cat([experience.drawn_with(row) for row in rows]).to(model.device),
        )


def _backward(policy: PolicyModel, reference: PolicyModel, batch: _MicroBatch, config: GRPOConfig) -> torch.Tensor:
    """Add the gradient of one micro-batch and return its tallies (see `_summarise`)."""
    with autocast(inner_model(policy), config):
        if batch.old_N is None and has_kl_loss(config):
            # Before the policy's pass, so that gathered weights are freed before that pass saves its activations.
            with torch.no_grad():
                batch.reference_N = policy_logprobs(reference, batch.sequences, config.rollout.temperature)
        logprobs_N = policy_logprobs(policy, batch.sequences, config.rollout.temperature)
        if batch.old_N is None:
            batch.old_N = logprobs_N.detach()
    loss_N = _token_loss(logprobs_N, batch.old_N, batch, config)
    loss = (batch.weights_N * loss_N).sum()
    loss.backward()
    with torch.no_grad():
        return _tally(loss, logprobs_N.detach(), batch.old_N, batch, config)


def _token_loss(logprobs_N: torch.Tensor, old_N: torch.Tensor, batch: _MicroBatch, config: GRPOConfig) -> torch.Tensor:
    if config.paradigm.advantage not in ("gae", "group"):
        return likelihood_token_loss(logprobs_N, batch.advantages_N)
    return grpo_token_loss(
        logprobs_N,
        old_N,
        batch.reference_N,
        batch.advantages_N,
        clip_low=config.clip_low,
        clip_high=config.clip_high,
        kl_coef=config.kl_coef,
        surrogate=config.surrogate,
        lengths=batch.lengths if config.ratio == "sequence" else None,
        importance=_importance(old_N, batch, config),
    )


def _importance(old_N: torch.Tensor, batch: _MicroBatch, config: GRPOConfig) -> torch.Tensor | None:
    """Return the weight of each token that corrects for the engine's probabilities; `None` if it is off, or they are unknown."""
    if batch.engine_N is None or (config.tis_cap is None and config.tis_mask == "none"):
        return None
    bounds = (config.tis_low, config.tis_high)
    return engine_weights(old_N, batch.engine_N, batch.lengths, config.tis_cap, config.tis_mask, bounds)


def _tally(loss: torch.Tensor, logprobs_N: torch.Tensor, old_N: torch.Tensor, batch: _MicroBatch, config: GRPOConfig) -> torch.Tensor:
    ratio_N = policy_ratios(logprobs_N, old_N, batch.lengths if config.ratio == "sequence" else None)
    clipped = config.paradigm.advantage in ("gae", "group")
    # `clip` removes the gradient only if it would move the ratio further out; `cispo` clips the weight in any case.
    above_N = (ratio_N > 1 + config.clip_high) & clipped & ((batch.advantages_N > 0) | (config.surrogate == "cispo"))
    below_N = (ratio_N < 1 - config.clip_low) & clipped & ((batch.advantages_N < 0) | (config.surrogate == "cispo"))
    importance_N = _importance(old_N, batch, config)
    dropped_N = torch.zeros_like(ratio_N) if importance_N is None else importance_N == 0
    kl_N = torch.zeros_like(ratio_N) if batch.reference_N is None else kl_estimate(logprobs_N, batch.reference_N)
    gap_N = torch.zeros_like(ratio_N) if batch.engine_N is None else (old_N - batch.engine_N).abs()
    return torch.stack(
        [
            loss,
            (batch.weights_N * kl_N).sum(),
            (batch.copies_N * above_N).sum(),
            (batch.copies_N * below_N).sum(),
            (batch.copies_N * ratio_N).sum(),
            (batch.copies_N * gap_N).sum(),
            (batch.copies_N * dropped_N).sum(),
            batch.copies_N.sum(),
            ratio_N.min(),
            ratio_N.max(),
            gap_N.max(),
        ]
    ).double()


def _summarise(tallies: list[torch.Tensor], batches: list[_MicroBatch], masks: bool, ranks: Ranks) -> dict[str, float | None]:
    table = torch.stack(tallies).cpu()
    loss, kl, above, below, ratio, gap, dropped, tokens = ranks.sum(table[:, :8].sum(dim=0)).tolist()
    low, high, gap_high = ranks.maximum(torch.stack([-table[:, 8], table[:, 9], table[:, 10]]).amax(dim=1)).tolist()
    engine = batches[0].engine_N is not None
    return {
        "loss": loss,
        "kl": None if batches[0].reference_N is None else kl,
        "clip_fraction": (above + below) / tokens,
        "clip_fraction_high": above / tokens,
        "clip_fraction_low": below / tokens,
        "ratio_mean": ratio / tokens,
        "ratio_min": -low,
        "ratio_max": high,
        "mismatch_mean": gap / tokens if engine else None,
        "mismatch_largest": gap_high if engine else None,
        "mismatch_dropped": dropped / tokens if engine and masks else None,
    }
