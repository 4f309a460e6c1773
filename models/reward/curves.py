"""Evaluates a reward model's scores: calibration, and the accuracy of best-of-N selection (as in Math-Shepherd's Figure 3)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence


def calibration_curve(scores: Sequence[float], right: Sequence[bool], bins: int = 10) -> list[dict[str, float]]:
    """Return, for each of `bins` equal score ranges that is not empty, mean `score`, `right` (share of correct solutions) and `count`."""
    held: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for score, correct in zip(scores, right, strict=True):
        held[min(bins - 1, int(score * bins))].append((score, correct))
    return [
        {
            "score": sum(score for score, _ in held[place]) / len(held[place]),
            "right": sum(correct for _, correct in held[place]) / len(held[place]),
            "count": len(held[place]),
        }
        for place in sorted(held)
    ]


def calibration_error(curve: Sequence[dict[str, float]]) -> float:
    """Return the expected calibration error: mean |score - share correct| over the bins, weighted by their counts."""
    return sum(point["count"] * abs(point["score"] - point["right"]) for point in curve) / sum(point["count"] for point in curve)


def best_of_n(scores: Sequence[Sequence[float]], right: Sequence[Sequence[bool]], n: int) -> float | None:
    """Return the accuracy of taking the best-scored of n solutions: the mean over questions of the mean over all choices of n.

    Each row is a question. Questions with fewer than n solutions are left out (`None` if none remains). Ties are broken at random.
    """
    values = []
    for row, correct in zip(scores, right, strict=True):
        if len(row) < n:
            continue
        ties: dict[float, list[bool]] = defaultdict(list)
        for score, good in zip(row, correct, strict=True):
            ties[score].append(good)
        ranked = [sum(ties[score]) / len(ties[score]) for score in sorted(row, reverse=True)]
        # The solution at rank i is the best of each choice that has it and n - 1 solutions of lower rank.
        ways = [math.comb(len(row) - 1 - place, n - 1) for place in range(len(row))]
        values.append(sum(way * good for way, good in zip(ways, ranked, strict=True)) / math.comb(len(row), n))
    return sum(values) / len(values) if values else None


def powers_of_two(largest: int) -> list[int]:
    """Return 1, 2, 4, ... and `largest` itself."""
    return [*(1 << power for power in range(largest.bit_length()) if 1 << power < largest), largest]
