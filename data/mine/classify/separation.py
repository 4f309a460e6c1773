"""Checks that a classifier separates held-out positives from held-out negatives, before it scores a crawl.

A classifier that learned nothing still gives every page a score, and the best pages fill any budget. So it is measured
first. The negatives are random pages of the crawl, and some of them are mathematics (see `SeparationConfig`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.mine.config import MineConfig

# Fewer pages of a class than this are few for the paper's training settings.
_FEW = 5000


@dataclass(frozen=True)
class Separation:
    """How well scores separate held-out positives from held-out negatives."""

    auc: float | None
    """Chance that a positive scores above a negative, equal scores counting half; None if it was not measured."""
    positives: int
    """Held-out pages."""
    negatives: int


def separation(scores: NDArray[np.float32], positive: NDArray[np.bool_], least_pages: int) -> Separation:
    """Area under the ROC curve of `scores`, shape (pages,); not measured with fewer than `least_pages` of a class."""
    good, others = scores[positive], np.sort(scores[~positive])
    if min(len(good), len(others)) < least_pages:
        return Separation(None, len(good), len(others))
    below = np.searchsorted(others, good, side="left") + np.searchsorted(others, good, side="right")
    return Separation(float(below.mean() / 2 / len(others)), len(good), len(others))


def demand(found: Separation, number: int, examples: tuple[int, int], config: MineConfig) -> None:
    """Raise `MathQuarryError` when the classifier of round `number` does not separate; `examples` counts its positives and negatives."""
    if found.auc is None or found.auc >= config.separation.least_auc:
        return
    positives, negatives = examples
    settings = config.classifier
    if min(examples) < _FEW:
        cause = (
            f"{positives:,} positives and {negatives:,} negatives are few for {settings.epochs} epochs at a learning rate of "
            f"{settings.learning_rate:g}, or the seed pages are like the rest of the crawl"
        )
        change = "Give more seed pages (seed_pages), or raise classifier.epochs and classifier.learning_rate; then look at the seed pages."
    else:
        cause = "the seed pages are like the crawl, or are not mathematics"
        change = "Look at the pages of seed_pages."
    raise MathQuarryError(
        f"round {number}: the classifier does not separate. On {found.positives:,} held-out positives and {found.negatives:,} held-out "
        f"pages of the crawl its AUC is {found.auc:.3f}; separation.least_auc is {config.separation.least_auc:g}, and 0.5 is chance. "
        f"The likely cause: {cause}. {change} If most of the crawl is mathematics, lower separation.least_auc."
    )
