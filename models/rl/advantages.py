"""Group-relative advantages of every completion token (paper sections 4.1.2 and 4.1.3).

Shape suffixes: Q questions, G completions per question, B = Q x G completions (those of a question are adjacent), S steps, T completion
tokens.

Our choices, where the paper does not say:
1. std is the standard deviation of the group itself (ddof = 0), so the normalised rewards of a group have variance 1 whatever its size;
2. a group whose std is below `SMALLEST_STD`, which is only rounding, has advantage 0: its rewards do not say which completion is better,
   and dividing by this std would amplify rounding errors.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mathquarry.models.rl.config import AdvantageNormalisation, Credit

SMALLEST_STD = 1e-6
"""Rewards are float32 scores in [0, 1]. A smaller spread is rounding."""


def outcome_advantages(
    rewards_B: torch.Tensor,
    lengths_B: torch.Tensor,
    group_size: int,
    normalisation: AdvantageNormalisation = "group_std",
    min_spread: float = 0.0,
) -> torch.Tensor:
    """Outcome supervision (4.1.2): A_{i,t} = (r_i - mean(r)) / std(r) for every token t of completion i.

    `rewards_B` has one reward per completion, `lengths_B` the number of its tokens. Returns advantages_BT (float32), where T is the longest
    completion; 0 after a completion's end. `normalisation` selects the std to divide by: the group's, that of all rewards (`batch_std`,
    arXiv 2508.08221), or none (Dr. GRPO). A std below `min_spread` is replaced by `min_spread`.
    """
    real_B1 = torch.ones_like(rewards_B[:, None], dtype=torch.bool)
    normalised_B = _normalise(rewards_B[:, None], real_B1, group_size, normalisation, min_spread)[:, 0]
    token_T = torch.arange(_longest(lengths_B))
    return (normalised_B[:, None] * (token_T < lengths_B[:, None])).float()


def process_advantages(
    rewards_BS: torch.Tensor,
    ends_BS: torch.Tensor,
    lengths_B: torch.Tensor,
    group_size: int,
    normalisation: AdvantageNormalisation = "group_std",
    min_spread: float = 0.0,
    credit: Credit = "sum",
) -> torch.Tensor:
    """Process supervision (4.1.3): A_{i,t} = sum of the normalised rewards of the steps of completion i that end at or after token t.

    `rewards_BS[i, j]` is the reward of step j of completion i, and `ends_BS[i, j]` the index of its last token in the completion; -1 marks
    padding. Rewards are normalised with the mean and std of all steps of all completions of the group. Returns advantages_BT (float32),
    where T is the longest completion; 0 after a completion's end. `normalisation` and `min_spread` are as in `outcome_advantages`.

    With `credit = "min"` (PURE, arXiv 2504.15275) the value of a step is the minimum of the rewards from it on. These values are normalised
    instead of rewards, and each token gets the value of its step. So the number of steps does not scale an advantage.
    """
    real_BS = ends_BS >= 0
    if credit == "min":
        from_here_BS = torch.where(real_BS, rewards_BS, float("inf")).flip(1).cummin(dim=1).values.flip(1)
        rewards_BS = torch.where(real_BS, from_here_BS, 0.0)
    normalised_BS = _normalise(rewards_BS, real_BS, group_size, normalisation, min_spread)
    token_T = torch.arange(_longest(lengths_B))
    advantages_BT = torch.zeros(len(lengths_B), len(token_T), dtype=torch.float64)
    start_B1 = torch.zeros(len(lengths_B), 1, dtype=torch.int64)
    for rewards_B, ends_B in zip(normalised_BS.T, ends_BS.T, strict=True):
        counts_BT = ends_B[:, None] >= token_T
        if credit == "min":
            counts_BT &= token_T >= start_B1
            start_B1 = torch.maximum(start_B1, ends_B[:, None] + 1)
        advantages_BT += rewards_B[:, None] * counts_BT
    return (advantages_BT * (token_T < lengths_B[:, None])).float()


def pad_steps(values: Sequence[Sequence[float]], padding: float) -> torch.Tensor:
    """Return ragged values, one list per completion, as a tensor [B, S] of the padding's type."""
    longest = max((len(row) for row in values), default=0)
    dtype = torch.int64 if isinstance(padding, int) else torch.float32
    return torch.tensor([[*row, *[padding] * (longest - len(row))] for row in values], dtype=dtype).reshape(len(values), longest)


def _normalise(
    rewards_BS: torch.Tensor, real_BS: torch.Tensor, group_size: int, normalisation: AdvantageNormalisation, min_spread: float
) -> torch.Tensor:
    """Return (r - mean) / std of each group of `group_size` rows, without padding; 0 at padding and in groups without spread (float64)."""
    real_QN = real_BS.reshape(-1, group_size * real_BS.shape[1])
    rewards_QN = torch.where(real_QN, rewards_BS.double().reshape(real_QN.shape), 0.0)
    count_Q = real_QN.sum(dim=1, keepdim=True).clamp(min=1)
    centred_QN = torch.where(real_QN, rewards_QN - rewards_QN.sum(dim=1, keepdim=True) / count_Q, 0.0)
    std_Q = (centred_QN.square().sum(dim=1, keepdim=True) / count_Q).sqrt()
    divisor_Q = std_Q
    if normalisation == "batch_std":
        divisor_Q = rewards_QN[real_QN].std(correction=0).expand_as(std_Q) if real_QN.any() else std_Q
    elif normalisation == "none":
        divisor_Q, min_spread = torch.ones_like(std_Q), 0.0
    divisor_Q = divisor_Q.clamp(min=max(min_spread, SMALLEST_STD))
    return torch.where(std_Q < SMALLEST_STD, 0.0, centred_QN / divisor_Q).reshape(real_BS.shape)


def _longest(lengths_B: torch.Tensor) -> int:
    return int(lengths_B.max()) if len(lengths_B) else 0
