"""What a reward model's scores are worth: calibration, and the accuracy of picking the best of N (as Math-Shepherd's Figure 3 does)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence


def calibration_curve(scores: Sequence[float], right: Sequence[bool], bins: int = 10) -> list[dict[str, float]]:
    """For each of `bins` equal ranges of scores that holds any: mean `score`, `right` (share of right solutions) and `count`."""
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
    """Expected calibration error: mean |score - share right| over the bins, weighted by their counts."""
    return sum(point["count"] * abs(point["score"] - point["right"]) for point in curve) / sum(point["count"] for point in curve)


def best_of_n(scores: Sequence[Sequence[float]], right: Sequence[Sequence[bool]], n: int) -> float | None:
    """Accuracy of taking the best-scored of n solutions, the mean over questions of the mean over all choices of n.

    Each row is a question; those with fewer than n solutions are left out (`None` if that leaves none). Among equal scores one is taken at
    random.
    """
    values = []
    for row, correct in zip(scores, right, strict=True):
        if len(row) < n:
            continue
        ties: dict[float, list[bool]] = defaultdict(list)
        for score, good in zip(row, correct, strict=True):
            ties[score].append(good)
        ranked = [sum(ties[score]) / len(ties[score]) for score in sorted(row, reverse=True)]
        # The solution ranked i-th is the best of a choice that holds it and n - 1 of those ranked below.
        ways = [math.comb(len(row) - 1 - place, n - 1) for place in range(len(row))]
        values.append(sum(way * good for way, good in zip(ways, ranked, strict=True)) / math.comb(len(row), n))
    return sum(values) / len(values) if values else None


def powers_of_two(largest: int) -> list[int]:
    """1, 2, 4, ... and `largest` itself."""
    return [*(1 << power for power in range(largest.bit_length()) if 1 << power < largest), largest]
