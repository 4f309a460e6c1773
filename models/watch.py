"""When a training loop must stop: a loss that is not finite, or one that leaps; and what to keep of the batch that did it."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.files import atomic_path
from models.config import TrainConfig
from models.packing import Row

WINDOW = 20
"""Steps whose median loss a leap is measured from."""
SETTLED = 5
"""Losses needed before a leap can be told from noise."""


class Watch:
    """Judges each step before its update is made, so that weights stay as they were before the bad batch."""

    def __init__(self, config: TrainConfig, losses: Sequence[float]) -> None:
        """`losses` are those of the steps before, if the run is resumed."""
        self._leap = config.loss_spike
        self._losses = deque(losses, maxlen=WINDOW)

    def fault(self, loss: float, norm: float) -> str | None:
        """What is wrong with a step and what to do about it, or `None`."""
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return f"has loss {loss} and gradient norm {norm}. Lower learning_rate or lengthen the warm-up"
        if self._leap is not None and len(self._losses) >= SETTLED and loss > (usual := statistics.median(self._losses)) + self._leap:
            return f"has loss {loss:.4f}, {loss - usual:.4f} above the median of the steps before (loss_spike = {self._leap})"
        self._losses.append(loss)
        return None


def keep_batch(path: Path, rows: Sequence[Row], first_place: int) -> None:
    """Write the rows of a step as NumPy arrays: `places` in the run's order, `input_ids`, `position_ids`, `labels`, (rows, tokens) each."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            places=np.arange(first_place, first_place + len(rows)),
            input_ids=np.stack([row["input_ids"] for row in rows]),
            position_ids=np.stack([row["position_ids"] for row in rows]),
            labels=np.stack([row["labels"] for row in rows]),
        )
