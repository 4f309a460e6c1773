"""The interface of all handovers, and the policy's weights as a stream of whole tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from mathquarry.models.policy.adapters import merged_weights


class Handover(Protocol):
    """Sends the weights of a policy, which may be sharded over the ranks, to each rank's engine."""

    def hand_over(self, policy: PreTrainedModel, version: str) -> None:
        """Send the weights. All ranks must call it. Afterwards the engine generates with these weights, which are named `version`.

        No rank holds a second copy of all weights, besides that of its engine. Raises `MathQuarryError` if they do not arrive.
        `mathquarry.models.rollout.weight_check` checks that they arrived completely.
        """
        ...


def whole_tensors(policy: PreTrainedModel, dtype: torch.dtype) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (name, full tensor in `dtype` on this rank's device) one by one, merged with adapters. A tied head is included under its own
    name.

    Shards are rounded first and then gathered, one tensor at a time, so all ranks must iterate together.
    """
    for name, tensor in merged_weights(policy).items():
        rounded = tensor.detach().to(dtype)
        yield name, rounded.full_tensor() if isinstance(rounded, DTensor) else rounded
