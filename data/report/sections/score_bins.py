"""Crops histograms of scores to the range with pages, in bins that are large enough to see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from mathquarry.data.mine.record.histogram import FURTHEST, edges

MOST_BINS = 60
"""Maximum number of bins that are visible in a chart."""
_OUTLIERS = 0.002
"""Share of a round's pages at each end that does not widen the chart, since a few empty pages score far below all others."""
_TICKS = sorted(
    {share for power in range(2, 6) for share in (10**-power, 3 * 10**-power)}
    | {tenth / 10 for tenth in range(1, 10)}
    | {0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95}
)
_MOST_TICKS = 12


class Shown(NamedTuple):
    """The visible part of histograms over the same bins."""

    edges: list[float]
    """In log-odds."""
    counts: list[list[int]]
    """A list per round. The outermost bins include everything beyond them."""
    beyond: int
    """Largest number of pages of a round beyond the outermost bins."""


def shown(counts: Sequence[Sequence[int]], marks: Sequence[float]) -> Shown:
    """Crop histograms to their pages and `marks` (log-odds), and merge bins. Input bins: log-odds from -FURTHEST to FURTHEST."""
    bins = len(counts[0])
    at = [min(bins - 1, max(0, math.floor((mark + FURTHEST) * bins / (2 * FURTHEST)))) for mark in marks]
    first = min([*at, *(_reached(one) for one in counts)])
    last = max([*at, *(bins - 1 - _reached(one[::-1]) for one in counts)])
    size = -(-(last - first + 3) // MOST_BINS)
    first, last = max(0, first - size), min(bins - 1, last + size)
    last = min(bins - 1, first + -(-(last - first + 1) // size) * size - 1)
    cropped, beyond = [], 0
    for one in counts:
        inside = list(one[first : last + 1])
        below, above = sum(one[:first]), sum(one[last + 1 :])
        inside[0] += below
        inside[-1] += above
        beyond = max(beyond, below + above)
        cropped.append([sum(inside[start : start + size]) for start in range(0, len(inside), size)])
    ends = edges(bins)[first : last + 2]
    return Shown([*ends[:-1:size], ends[-1]], cropped, beyond)


def ticks(ends: Sequence[float]) -> list[tuple[float, str]]:
    """Return labels for the axis that do not overlap: (log-odds, text)."""
    low, high = ends[0], ends[-1]
    room = (high - low) / _MOST_TICKS
    every = [(math.log(share / (1 - share)), share) for share in {*_TICKS, *(1 - share for share in _TICKS)}]
    # Prefer rounder shares: the middle, then powers of ten, then tenths.
    every.sort(key=lambda tick: (len(f"{min(tick[1], 1 - tick[1]):.6g}".strip("0.")), abs(tick[0])))
    kept: list[tuple[float, str]] = []
    for place, share in every:
        if low <= place <= high and all(abs(place - other) >= room for other, _ in kept):
            kept.append((place, f"{share:.6g}"))
    return sorted(kept)


def _reached(counts: Sequence[int]) -> int:
    """Return the first bin at which more than the outliers are reached."""
    most, passed = _OUTLIERS * sum(counts), 0
    for number, pages in enumerate(counts):
        passed += pages
        if passed > most:
            return number
    return 0
