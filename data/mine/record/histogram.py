"""Histogram of scores on a log-odds scale. fastText's scores crowd at 0 and 1, or near one value, where a linear scale shows nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FURTHEST = 11.5
"""Log-odds of the outermost edges. fastText's scores stay within them; anything beyond falls in the outermost bins."""
BINS = 230
"""Number of bins, so that each is 0.1 wide: scores from 0.5 to 0.9 span 22 bins. A page with little room merges several."""


def edges(bins: int) -> list[float]:
    """Edges of `bins` bins in log-odds, shape (bins + 1,)."""
    return [2 * FURTHEST * number / bins - FURTHEST for number in range(bins + 1)]


def histogram(scores: NDArray[np.float32]) -> list[int]:
    """Number of scores (probabilities) in each bin, shape (BINS,)."""
    bounded = np.clip(scores.astype(np.float64), 1e-9, 1 - 1e-9)
    odds = np.clip(np.log(bounded / (1 - bounded)), -FURTHEST, FURTHEST)
    return np.histogram(odds, edges(BINS))[0].tolist()
