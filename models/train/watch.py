"""Detects steps at which training must stop (a loss that is not finite, or that spikes), and saves their batch."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mathquarry.data.files import atomic_path
from mathquarry.models.train.config import TrainConfig
from mathquarry.models.train.packing import Row

WINDOW = 20
"""Number of steps whose median loss is compared with the current loss."""
SETTLED = 5
"""Losses needed before a spike can be detected."""


class Watch:
    """Checks each step before its update, so that the weights are those before the bad batch."""

    def __init__(self, config: TrainConfig, losses: Sequence[float]) -> None:
        """`losses` are those of the previous steps, if the run is resumed."""
        self._leap = config.loss_spike
        self._losses = deque(losses, maxlen=WINDOW)

    def fault(self, loss: float, norm: float) -> str | None:
        """Return the problem with a step and what to do about it, or `None`."""
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return f"has loss {loss} and gradient norm {norm}. Lower learning_rate or lengthen the warm-up"
        if self._leap is not None and len(self._losses) >= SETTLED and loss > (usual := statistics.median(self._losses)) + self._leap:
            return f"has loss {loss:.4f}, {loss - usual:.4f} above the median of the previous steps (loss_spike = {self._leap})"
        self._losses.append(loss)
        return None


def keep_batch(path: Path, rows: Sequence[Row], first_place: int) -> None:
    """Write the rows of a step as NumPy arrays: `places` in the run's order, `input_ids`, `position_ids`, `labels`, each (rows, tokens)."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            places=np.arange(first_place, first_place + len(rows)),
            input_ids=np.stack([row["input_ids"] for row in rows]),
            position_ids=np.stack([row["position_ids"] for row in rows]),
            labels=np.stack([row["labels"] for row in rows]),
        )
