"""Histogram of scores on a log-odds scale: fastText's scores crowd at 0 and 1, where a linear scale shows nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EDGES = [half / 2 for half in range(-23, 24)]
"""Edges of the bins: log-odds from -11.5 to 11.5, the range of a fastText score; what lies beyond is in the outer bins."""


def histogram(scores: NDArray[np.float32]) -> list[int]:
    """Number of scores (probabilities) in each bin, shape (len(EDGES) - 1,)."""
    bounded = np.clip(scores.astype(np.float64), 1e-9, 1 - 1e-9)
    odds = np.clip(np.log(bounded / (1 - bounded)), EDGES[0], EDGES[-1])
    return np.histogram(odds, EDGES)[0].tolist()
