"""One step's updates of the policy: mu gradient steps of Eq. 3 on one batch of outputs (paper Algorithm 1, lines 9 and 10)."""

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
from models.rl.logprobs import output_logprobs
from models.rl.objectives import grpo_token_loss, kl_estimate, token_weights
from models.rl.sequences import SequenceBatch, lay_out


@dataclass(frozen=True)
class Experience:
    """What one optimizer step learns from: outputs with the advantage of each of their tokens."""

    prompts: Sequence[Sequence[int]]
    outputs: Sequence[Sequence[int]]
    advantages_BT: torch.Tensor  # T: the longest output; beyond an output's end the values do not matter


@dataclass
class _MicroBatch:
    """Different sequences of one forward pass, `copies_N` of each in the experience.

    Vectors run over the N output tokens. `weights_N` is the weight of all copies together; `old_N` and `reference_N` are filled in the
    first update.
    """

    sequences: SequenceBatch
    advantages_N: torch.Tensor
    weights_N: torch.Tensor
    copies_N: torch.Tensor
    old_N: torch.Tensor | None = None
    reference_N: torch.Tensor | None = None


def make_optimizer(model: PreTrainedModel, config: GRPOConfig) -> torch.optim.Optimizer:
    """AdamW at the constant rate of the config."""
    return torch.optim.AdamW(
        model.parameters(),
        lr=config.learning_rate,
        betas=(config.optimizer.beta1, config.optimizer.beta2),
        weight_decay=config.optimizer.weight_decay,
        fused=True,
    )


def update_policy(
    policy: PreTrainedModel, reference: PreTrainedModel, optimizer: torch.optim.Optimizer, experience: Experience, config: GRPOConfig
) -> dict[str, float]:
    """Make `config.updates_per_step` gradient steps of Eq. 3 on all outputs of `experience`; the policy changes in place.

    pi_old is the policy as it comes in: its log-probabilities are those of the first update, so no pass of their own is needed, and with
    one update the ratio is 1. The reference's are computed once and only if the KL term counts. The gradient is that of the whole step,
    however many forward passes `micro_batch_tokens` cuts it into.

    Returns figures of the last update: loss, kl (Eq. 4, weighted as in the loss), entropy (mean of -log pi at the sampled tokens, which
    estimates it while they come from this policy), clip_fraction (share of tokens whose clipped ratio cuts the gradient), ratio_mean,
    ratio_min, ratio_max and gradient_norm (before clipping). Raises `MathQuarryError` when the gradient is not finite.
    """
    batches = list(_micro_batches(experience, config.micro_batch_tokens, policy))
    figures: dict[str, float] = {}
    for update in range(config.updates_per_step):
        optimizer.zero_grad(set_to_none=True)
        tallies = [_backward(policy, reference, batch, config) for batch in batches]
        norm = float(nn.utils.clip_grad_norm_(policy.parameters(), config.optimizer.grad_clip))
        if not math.isfinite(norm):
            raise MathQuarryError(
                f"update {update + 1} of a GRPO step has gradient norm {norm}. Lower grpo.learning_rate or raise kl_coef."
            )
        optimizer.step()
        figures = {**_summarise(tallies), "gradient_norm": norm}
    optimizer.zero_grad(set_to_none=True)
    return figures


def _micro_batches(experience: Experience, token_budget: int, policy: PreTrainedModel) -> Iterator[_MicroBatch]:
    """The experience in forward passes. Equal outputs of a question with equal advantages are computed once and weigh as many.

    A small or well-trained policy repeats itself so much that this saves most of the work; the sum over outputs is the same.
    """
    lengths = [len(output) for output in experience.outputs]
    weights = token_weights(lengths)
    copies: dict[tuple[tuple[int, ...], tuple[int, ...], bytes], list[int]] = {}
    for row, (prompt, output) in enumerate(zip(experience.prompts, experience.outputs, strict=True)):
        advantages = experience.advantages_BT[row, : lengths[row]].numpy().tobytes()
        copies.setdefault((tuple(prompt), tuple(output), advantages), []).append(row)
    groups = list(copies.values())
    firsts = [group[0] for group in groups]
    for sequences in lay_out(
        [experience.prompts[row] for row in firsts], [experience.outputs[row] for row in firsts], policy, token_budget
    ):
        rows = [firsts[place] for place in sequences.members]
        count_N = torch.cat([torch.full((lengths[firsts[place]],), float(len(groups[place]))) for place in sequences.members])
        yield _MicroBatch(
            sequences,
            torch.cat([experience.advantages_BT[row, : lengths[row]] for row in rows]).to(policy.device),
            (count_N * torch.cat([torch.full((lengths[row],), weights[row]) for row in rows])).to(policy.device),
            count_N.to(policy.device),
        )


def _backward(policy: PreTrainedModel, reference: PreTrainedModel, batch: _MicroBatch, config: GRPOConfig) -> torch.Tensor:
    """Add the gradient of one micro-batch and return its tallies (see `_summarise`)."""
    with _autocast(policy, config):
        logprobs_N = output_logprobs(policy, batch.sequences, config.rollout.temperature)
        if batch.old_N is None:
            batch.old_N = logprobs_N.detach()
            if config.kl_coef > 0:
                with torch.no_grad():
                    batch.reference_N = output_logprobs(reference, batch.sequences, config.rollout.temperature)
    loss_N = grpo_token_loss(logprobs_N, batch.old_N, batch.reference_N, batch.advantages_N, config.clip_range, config.kl_coef)
    loss = (batch.weights_N * loss_N).sum()
    loss.backward()
    with torch.no_grad():
        return _tally(loss, logprobs_N.detach(), batch, config)


def _tally(loss: torch.Tensor, logprobs_N: torch.Tensor, batch: _MicroBatch, config: GRPOConfig) -> torch.Tensor:
    assert batch.old_N is not None, "old log-probabilities are set in the first update"
    ratio_N = torch.exp(logprobs_N - batch.old_N)
    above_N = (ratio_N > 1 + config.clip_range) & (batch.advantages_N > 0)
    below_N = (ratio_N < 1 - config.clip_range) & (batch.advantages_N < 0)
    kl_N = torch.zeros_like(ratio_N) if batch.reference_N is None else kl_estimate(logprobs_N, batch.reference_N)
    return torch.stack(
        [
            loss,
            (batch.weights_N * kl_N).sum(),
            -(batch.copies_N * logprobs_N).sum(),
            (batch.copies_N * (above_N | below_N)).sum(),
            (batch.copies_N * ratio_N).sum(),
            batch.copies_N.sum(),
            ratio_N.min(),
            ratio_N.max(),
        ]
    ).double()


def _summarise(tallies: list[torch.Tensor]) -> dict[str, float]:
    table = torch.stack(tallies).cpu()
    loss, kl, surprise, clipped, ratio, tokens = table[:, :6].sum(dim=0).tolist()
    return {
        "loss": loss,
        "kl": kl,
        "entropy": surprise / tokens,
        "clip_fraction": clipped / tokens,
        "ratio_mean": ratio / tokens,
        "ratio_min": float(table[:, 6].min()),
        "ratio_max": float(table[:, 7].max()),
    }


def _autocast(model: PreTrainedModel, config: GRPOConfig) -> AbstractContextManager:
    return torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=config.precision == "bfloat16")
