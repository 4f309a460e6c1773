"""What a training loop is measured on beside its own loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from models.packing import PackedRows


@dataclass(frozen=True)
class HeldOut:
    """One text in packed rows. `bytes` is the length in UTF-8 of what has labels."""

    name: str
    rows: PackedRows
    bytes: int

    def bits(self, total_nats: float) -> float:
        """Bits for each byte, given the summed loss of all labels in nats."""
        return total_nats / math.log(2) / self.bytes


@dataclass(frozen=True)
class Measurement:
    """Texts on which the model is measured, by the loss that it is trained with: before training, every `every` steps and at the end."""

    texts: Sequence[HeldOut] = ()
    every: int = 1


NOTHING = Measurement()
