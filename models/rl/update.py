"""One step's updates of the policy: mu gradient steps on one batch of outputs (paper Algorithm 1, lines 9 and 10)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel

from data.errors import MathQuarryError
from models.config import GRPOConfig
from models.distributed import Ranks, clip_gradients
from models.rl.objectives import (
    constant_weights,
    grpo_token_loss,
    kl_estimate,
    likelihood_token_loss,
    token_mean_weights,
    token_weights,
)
from models.rl.sequences import SequenceBatch
from models.rl.shares import Scorer, inner_model, lay_out_share, scored_logprobs

DAPO_CLIP_ABOVE = 0.28


@dataclass(frozen=True)
class Experience:
    """What one optimizer step learns from: outputs with the gradient coefficient of each of their tokens."""

    prompts: Sequence[Sequence[int]]
    outputs: Sequence[Sequence[int]]
    advantages_BT: torch.Tensor  # T: the longest output; beyond an output's end the values do not matter
    engine_logprobs: Sequence[Sequence[float]] | None = None  # what the engine says the tokens were drawn with


@dataclass
class _MicroBatch:
    """Different sequences of one forward pass, `copies_N` of each in the experience; none in a pass that does not count.

    Vectors run over the N output tokens. `weights_N` is the weight of all copies together; `old_N` and `reference_N` are filled in the
    first update.
    """

    sequences: SequenceBatch
    advantages_N: torch.Tensor
    weights_N: torch.Tensor
    copies_N: torch.Tensor
    engine_N: torch.Tensor | None
    old_N: torch.Tensor | None = None
    reference_N: torch.Tensor | None = None


def make_optimizer(model: nn.Module, config: GRPOConfig, learning_rate: float | None = None) -> torch.optim.Optimizer:
    """AdamW at a constant rate, that of the config unless another is given."""
    return torch.optim.AdamW(
        model.parameters(),
        lr=learning_rate or config.learning_rate,
        betas=(config.optimizer.beta1, config.optimizer.beta2),
        weight_decay=config.optimizer.weight_decay,
        fused=True,
    )


def update_policy(
    policy: Scorer, reference: Scorer, optimizer: torch.optim.Optimizer, experience: Experience, config: GRPOConfig
) -> dict[str, float | None]:
    """Make `config.updates_per_step` gradient steps on all outputs of `experience`; the policy changes in place.

    pi_old is the policy as it comes in: its log-probabilities are those of the first update, so no pass of their own is needed, and with
    one update the ratio is 1. The reference's are computed once and only if the KL term counts. Where no KL term does, outputs whose
    coefficients are all 0 have no gradient and are not computed. The gradient is that of the whole step, however many forward passes
    `micro_batch_tokens` cuts it into, and however many ranks share them: each is called with the whole experience, computes its share of
    it, and returns the figures of the whole.

    Returns figures of the last update: loss, kl (Eq. 4, weighted as in the loss; `None` if it was not computed), clip_fraction (share of
    tokens whose clipped ratio cuts the gradient), clip_fraction_high and _low (those above and below), ratio_mean, ratio_min, ratio_max,
    mismatch_mean and mismatch_largest (|log-probability by trainer - by engine|, before the first update) and gradient_norm (before
    clipping). Raises `MathQuarryError` when the gradient is not finite.
    """
    ranks = Ranks.current()
    batches = list(_micro_batches(experience, policy, config, ranks))
    figures: dict[str, float | None] = {"loss": 0.0, "gradient_norm": 0.0}
    for update in range(config.updates_per_step if batches else 0):
        optimizer.zero_grad(set_to_none=True)
        tallies = [_backward(policy, reference, batch, config) for batch in batches]
        norm = clip_gradients(policy.parameters(), config.optimizer.grad_clip)
        if not math.isfinite(norm):
            raise MathQuarryError(
                f"update {update + 1} of a GRPO step has gradient norm {norm}. Lower grpo.learning_rate or raise kl_coef."
            )
        optimizer.step()
        first = figures if update else {}
        figures = {**_summarise(tallies, batches, ranks), "gradient_norm": norm}
        # Later updates differ from the engine because they learn, not because the engine is wrong.
        figures |= {name: value for name, value in first.items() if name.startswith("mismatch")}
    optimizer.zero_grad(set_to_none=True)
    return figures


def sequence_logprobs(
    model: Scorer, prompts: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]], config: GRPOConfig
) -> list[torch.Tensor]:
    """Log-probabilities of each output's tokens at the sampling temperature, without gradient, on the CPU. Ranks share the work."""
    ranks = Ranks.current()
    own: dict[int, torch.Tensor] = {}
    for one in lay_out_share(prompts, outputs, inner_model(model), config.micro_batch_tokens, ranks):
        batch = one.sequences
        with torch.no_grad(), autocast(inner_model(model), config):
            logprobs_N = scored_logprobs(model, batch, config.rollout.temperature).cpu()
        if one.counts:
            own |= zip(batch.members, logprobs_N.split([len(outputs[member]) for member in batch.members]), strict=True)
    found = {member: logprobs_T for share in ranks.gather(own) for member, logprobs_T in share.items()}
    return [found[place] for place in range(len(outputs))]


def has_kl_loss(config: GRPOConfig) -> bool:
    """Whether the loss has a KL term. PPO's is in the reward, the other methods have none."""
    return config.paradigm.coefficient == "group" and config.kl_coef > 0 and not config.dapo


def autocast(model: PreTrainedModel, config: GRPOConfig) -> AbstractContextManager:
    """The precision of forward passes."""
    return torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=config.precision == "bfloat16")


def _weights(lengths: Sequence[int], config: GRPOConfig) -> list[float]:
    if config.dapo:
        return token_mean_weights(lengths)
    return constant_weights(lengths, config.rollout.max_tokens) if config.dr_grpo else token_weights(lengths)


def _micro_batches(experience: Experience, policy: Scorer, config: GRPOConfig, ranks: Ranks) -> Iterator[_MicroBatch]:
    """This rank's share of the experience in forward passes.

    Equal outputs of a question with equal advantages are computed once and weigh as many.
    A small or well-trained policy repeats itself so much that this saves most of the work; the sum over outputs is the same.
    """
    lengths = [len(output) for output in experience.outputs]
    weights = _weights(lengths, config)
    copies: dict[tuple[tuple[int, ...], tuple[int, ...], bytes], list[int]] = {}
    for row, (prompt, output) in enumerate(zip(experience.prompts, experience.outputs, strict=True)):
        advantages_T = experience.advantages_BT[row, : lengths[row]]
        if has_kl_loss(config) or advantages_T.any():
            copies.setdefault((tuple(prompt), tuple(output), advantages_T.numpy().tobytes()), []).append(row)
    groups = list(copies.values())
    firsts = [group[0] for group in groups]
    prompts, outputs = [experience.prompts[row] for row in firsts], [experience.outputs[row] for row in firsts]
    model = inner_model(policy)
    for one in lay_out_share(prompts, outputs, model, config.micro_batch_tokens, ranks):
        members = one.sequences.members
        rows = [firsts[place] for place in members]
        engine = experience.engine_logprobs
        count_N = torch.cat([torch.full((lengths[firsts[place]],), float(one.counts * len(groups[place]))) for place in members])
        yield _MicroBatch(
            one.sequences,
            torch.cat([experience.advantages_BT[row, : lengths[row]] for row in rows]).to(model.device),
            (count_N * torch.cat([torch.full((lengths[row],), weights[row]) for row in rows])).to(model.device),
            count_N.to(model.device),
            None if engine is None else torch.cat([torch.tensor(engine[row]) for row in rows]).to(model.device),
        )


def _backward(policy: Scorer, reference: Scorer, batch: _MicroBatch, config: GRPOConfig) -> torch.Tensor:
    """Add the gradient of one micro-batch and return its tallies (see `_summarise`)."""
    with autocast(inner_model(policy), config):
        logprobs_N = scored_logprobs(policy, batch.sequences, config.rollout.temperature)
        if batch.old_N is None:
            batch.old_N = logprobs_N.detach()
            if has_kl_loss(config):
                with torch.no_grad():
                    batch.reference_N = scored_logprobs(reference, batch.sequences, config.rollout.temperature)
    loss_N = _token_loss(logprobs_N, batch.old_N, batch, config)
    loss = (batch.weights_N * loss_N).sum()
    loss.backward()
    with torch.no_grad():
        return _tally(loss, logprobs_N.detach(), batch.old_N, batch, config)


def _token_loss(logprobs_N: torch.Tensor, old_N: torch.Tensor, batch: _MicroBatch, config: GRPOConfig) -> torch.Tensor:
    if config.paradigm.coefficient not in ("gae", "group"):
        return likelihood_token_loss(logprobs_N, batch.advantages_N)
    importance_N: torch.Tensor | float = 1.0
    if config.importance_cap is not None and batch.engine_N is not None:
        importance_N = torch.exp(old_N - batch.engine_N).clamp(max=config.importance_cap)
    above = DAPO_CLIP_ABOVE if config.dapo else None
    return grpo_token_loss(logprobs_N, old_N, batch.reference_N, batch.advantages_N, config.clip_range, config.kl_coef, above, importance_N)


def _tally(loss: torch.Tensor, logprobs_N: torch.Tensor, old_N: torch.Tensor, batch: _MicroBatch, config: GRPOConfig) -> torch.Tensor:
    ratio_N = torch.exp(logprobs_N - old_N)
    clipped = config.paradigm.coefficient in ("gae", "group")
    above_N = (ratio_N > 1 + (DAPO_CLIP_ABOVE if config.dapo else config.clip_range)) & (batch.advantages_N > 0) & clipped
    below_N = (ratio_N < 1 - config.clip_range) & (batch.advantages_N < 0) & clipped
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
            batch.copies_N.sum(),
            ratio_N.min(),
            ratio_N.max(),
            gap_N.max(),
        ]
    ).double()


def _summarise(tallies: list[torch.Tensor], batches: list[_MicroBatch], ranks: Ranks) -> dict[str, float | None]:
    table = torch.cat(ranks.gather(torch.stack(tallies).cpu()))
    loss, kl, above, below, ratio, gap, tokens = table[:, :7].sum(dim=0).tolist()
    engine = batches[0].engine_N is not None
    return {
        "loss": loss,
        "kl": None if batches[0].reference_N is None else kl,
        "clip_fraction": (above + below) / tokens,
        "clip_fraction_high": above / tokens,
        "clip_fraction_low": below / tokens,
        "ratio_mean": ratio / tokens,
        "ratio_min": float(table[:, 7].min()),
        "ratio_max": float(table[:, 8].max()),
        "mismatch_mean": gap / tokens if engine else None,
        "mismatch_largest": float(table[:, 9].max()) if engine else None,
    }
