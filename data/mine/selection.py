"""Selection of a round's pages: best score first, until the token budget is spent (paper section 2.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Selection:
    """The pages of one round."""

    mask: Mask
    tokens: int
    threshold: float
    """Lowest score among the selected pages."""


def select(scores: NDArray[np.float32], tokens: NDArray[np.int32], pool: Mask, keys: NDArray[np.uint64], budget: int) -> Selection:
    """Take pages of `pool` by descending score while their tokens fit the budget, at least one. Ties are broken by key (the URL's hash).

    Selection ends at the first page that does not fit, so no other page scores higher than a selected one.
    """
    candidates = np.flatnonzero(pool)
    ordered = candidates[np.lexsort((keys[candidates], -scores[candidates]))]
    spent = np.cumsum(tokens[ordered], dtype=np.int64)
    count = max(1, int(np.searchsorted(spent, budget, side="right")))
    mask = np.zeros(len(pool), dtype=bool)
    mask[ordered[:count]] = True
    return Selection(mask, int(spent[count - 1]), float(scores[ordered[count - 1]]))
