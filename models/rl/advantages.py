"""Group-relative advantages of every output token (paper sections 4.1.2 and 4.1.3).

Shape suffixes: Q questions, G outputs a question, B = Q x G outputs (the G of a question are neighbours), S steps, T output tokens.

What the paper leaves open, our choice:
1. std is that of the group itself (ddof = 0), so the normalised rewards of a group have variance 1 whatever its size;
2. a group without spread (std below `SMALLEST_STD`, which only rounding makes) has advantage 0: it says nothing about which output
   is better, and dividing by its std would blow rounding errors up to full size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

SMALLEST_STD = 1e-6
"""Rewards are float32 scores in [0, 1]; a smaller spread is rounding."""


def outcome_advantages(rewards_B: torch.Tensor, lengths_B: torch.Tensor, group_size: int, by_std: bool = True) -> torch.Tensor:
    """Outcome supervision (4.1.2): A_{i,t} = (r_i - mean(r)) / std(r) for every token t of output i.

    `rewards_B` are one reward an output, `lengths_B` its tokens. Returns advantages_BT (float32), T the longest output, 0 beyond its end.
    Without `by_std`, which departs from the paper, rewards are only centred (Dr. GRPO).
    """
    normalised_B = _normalise(rewards_B[:, None], torch.ones_like(rewards_B[:, None], dtype=torch.bool), group_size, by_std)[:, 0]
    token_T = torch.arange(_longest(lengths_B))
    return (normalised_B[:, None] * (token_T < lengths_B[:, None])).float()


def process_advantages(
    rewards_BS: torch.Tensor, ends_BS: torch.Tensor, lengths_B: torch.Tensor, group_size: int, by_std: bool = True
) -> torch.Tensor:
    """Process supervision (4.1.3): A_{i,t} = sum of the normalised rewards of the steps of output i that end at or after token t.

    `rewards_BS[i, j]` is the reward of step j of output i and `ends_BS[i, j]` the index of its last token among the output's tokens; -1
    marks padding. Rewards are normalised by the mean and std of all steps of all outputs of the group. Returns advantages_BT (float32),
    T the longest output, 0 beyond its end. Without `by_std` they are only centred.
    """
    real_BS = ends_BS >= 0
    normalised_BS = _normalise(rewards_BS, real_BS, group_size, by_std)
    token_T = torch.arange(_longest(lengths_B))
    advantages_BT = torch.zeros(len(lengths_B), len(token_T), dtype=torch.float64)
    for rewards_B, ends_B in zip(normalised_BS.T, ends_BS.T, strict=True):
        advantages_BT += rewards_B[:, None] * (ends_B[:, None] >= token_T)
    return (advantages_BT * (token_T < lengths_B[:, None])).float()


def pad_steps(values: Sequence[Sequence[float]], padding: float) -> torch.Tensor:
    """Ragged values, one list an output, as a tensor [B, S] of the padding's type."""
    longest = max((len(row) for row in values), default=0)
    dtype = torch.int64 if isinstance(padding, int) else torch.float32
    return torch.tensor([[*row, *[padding] * (longest - len(row))] for row in values], dtype=dtype).reshape(len(values), longest)


def _normalise(rewards_BS: torch.Tensor, real_BS: torch.Tensor, group_size: int, by_std: bool) -> torch.Tensor:
    """(r - mean) / std over the real entries of each group of `group_size` rows; 0 at padding and in groups without spread (float64)."""
    real_QN = real_BS.reshape(-1, group_size * real_BS.shape[1])
    rewards_QN = torch.where(real_QN, rewards_BS.double().reshape(real_QN.shape), 0.0)
    count_Q = real_QN.sum(dim=1, keepdim=True).clamp(min=1)
    centred_QN = torch.where(real_QN, rewards_QN - rewards_QN.sum(dim=1, keepdim=True) / count_Q, 0.0)
    std_Q = (centred_QN.square().sum(dim=1, keepdim=True) / count_Q).sqrt()
    divisor_Q = std_Q.clamp(min=SMALLEST_STD) if by_std else torch.ones_like(std_Q)
    return torch.where(std_Q < SMALLEST_STD, 0.0, centred_QN / divisor_Q).reshape(real_BS.shape)


def _longest(lengths_B: torch.Tensor) -> int:
    return int(lengths_B.max()) if len(lengths_B) else 0
