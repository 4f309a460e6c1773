"""Metrics of a training loop besides its own loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mathquarry.models.train.packing import IGNORED, PackedRows


class Measured(Protocol):
    """Rows whose summed loss is measured, and the metric computed from it."""

    @property
    def metric(self) -> str:
        """Name of the metric in the log."""
        ...

    @property
    def rows(self) -> PackedRows:
        """The rows that the model reads."""
        ...

    def value(self, total_nats: float) -> float:
        """Compute the metric from the summed loss of all labels, in nats."""
        ...


@dataclass(frozen=True)
class HeldOut:
    """One text in packed rows. `bytes` is the UTF-8 length of the labelled text."""

    name: str
    rows: PackedRows
    bytes: int

    @property
    def metric(self) -> str:
        """`NAME_bits`."""
        return f"{self.name}_bits"

    def value(self, total_nats: float) -> float:
        """Return bits per byte."""
        return total_nats / math.log(2) / self.bytes


@dataclass(frozen=True)
class TrainedSample:
    """A sample of the training examples of one group."""

    group: str
    rows: PackedRows

    @property
    def metric(self) -> str:
        """`loss_GROUP`."""
        return f"loss_{self.group}"

    def value(self, total_nats: float) -> float:
        """Return the loss per label, in nats."""
        return total_nats / sum(int((self.rows[place]["labels"] != IGNORED).sum()) for place in range(len(self.rows)))


@dataclass(frozen=True)
class Measurement:
    """Texts on which the model is evaluated with its training loss: before training, every `every` steps, and at the end."""

    texts: Sequence[Measured] = ()
    every: int = 1


NOTHING = Measurement()
