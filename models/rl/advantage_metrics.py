"""Metrics that detect advantages that do not come from the quality of completions.

Shape suffixes: B completions, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


def measure_advantages(
    advantages_BT: torch.Tensor, lengths: Sequence[int], correct: Sequence[bool], num_steps: Sequence[int], group_size: int
) -> dict[str, float | None]:
    """Return metrics of a step's advantages. Every list has one entry per completion; the `group_size` of a question are adjacent.

    `advantage_one_verdict` is the share of all |advantage| in groups whose completions are all correct or all wrong: there a learned reward
    ranks completions that do not differ. `advantage_per_step` is the increase of a completion's mean advantage with each additional step,
    among completions of one question that are all correct or all wrong (a least-squares slope): the sum over steps (4.1.3) favours many
    steps. Both are `None` if there is nothing to measure.
    """
    lengths_B, right_B = torch.tensor(lengths), torch.tensor(correct)
    inside_BT = torch.arange(advantages_BT.shape[1]) < lengths_B[:, None]
    own_BT = torch.where(inside_BT, advantages_BT, 0.0).double()
    mass_Q = own_BT.abs().sum(dim=1).reshape(-1, group_size).sum(dim=1)
    right_Q = right_B.reshape(-1, group_size)
    one_verdict_Q = right_Q.all(dim=1) | ~right_Q.any(dim=1)
    total = float(mass_Q.sum())
    return {
        "advantage_one_verdict": float(mass_Q[one_verdict_Q].sum()) / total if total else None,
        "advantage_per_step": _slope(torch.tensor(num_steps).double(), own_BT.sum(dim=1) / lengths_B.clamp(min=1), right_B, group_size),
    }


def _slope(steps_B: torch.Tensor, means_B: torch.Tensor, right_B: torch.Tensor, group_size: int) -> float | None:
    """Fit `means_B` to `steps_B` by least squares within each class: the correct, or the wrong, completions of a group."""
    class_B = torch.arange(len(steps_B)) // group_size * 2 + right_B.long()
    size_C = torch.bincount(class_B, minlength=int(class_B.max()) + 1).clamp(min=1)

    def centred(values_B: torch.Tensor) -> torch.Tensor:
        return values_B - (torch.zeros(len(size_C), dtype=torch.float64).index_add(0, class_B, values_B) / size_C)[class_B]

    steps_B, means_B = centred(steps_B), centred(means_B)
    spread = float(steps_B.square().sum())
    return float((steps_B * means_B).sum()) / spread if spread > 1e-9 else None
