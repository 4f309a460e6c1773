"""Decides whether a difference or a trend is more than noise.

A difference must be at least two standard errors from zero. If answers to the same questions are compared, an exact sign test over the
gained and lost ones must be significant too: with few questions that all change in the same direction, the standard error is zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

import numpy as np

CLEAR = 2.0
"""Standard errors above which a difference counts as more than noise."""
CHANCE = 0.05
"""p-value of a sign test or trend below which it counts as more than noise."""


def beyond(value: float, error: float | None) -> bool:
    """Whether a difference is more than noise, by its standard error; False if the error is unknown or zero."""
    return bool(error) and abs(value) >= CLEAR * (error or 0.0)


def seeds_agree(values: Sequence[float]) -> bool:
    """Whether the mean of a difference over seeds is significantly different from zero, by a t-test.

    If all differences are equal there is no spread to test. Then a sign test on the number of seeds decides.
    """
    if len(values) < 2:
        return False
    if max(values) - min(values) <= 1e-12:
        return flips_agree(len(values), 0) and values[0] != 0
    return student(mean(values) / (stdev(values) / math.sqrt(len(values))), len(values) - 1) < CHANCE


def flips_agree(gained: int, lost: int) -> bool:
    """Whether the gained and lost answers differ by more than chance: an exact two-sided sign test (McNemar's)."""
    flips, ways, tail = gained + lost, 1, 0  # of `place` gained answers, and of no more than so many
    for place in range(min(gained, lost) + 1):
        tail += ways
        ways = ways * (flips - place) // (place + 1)
    return flips > 0 and 2 * tail / 2**flips < CHANCE


def student(t: float, freedom: int) -> float:
    """Chance of a value of Student's t at least as far from 0, with `freedom` degrees of freedom.

    The finite series of Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4: exact to 1e-12 or so, which is
    enough to compare with `CHANCE`. scipy.stats has it too, and takes a second to import.
    """
    angle = math.atan2(abs(t), math.sqrt(freedom))
    first = 1 + freedom % 2  # the series runs over even powers of the cosine, divided by it where `freedom` is odd
    term, total = (math.cos(angle) if freedom % 2 else 1.0), 0.0
    for power in range(first, freedom, 2):
        total += term
        term *= power / (power + 1) * math.cos(angle) ** 2
    within = math.sin(angle) * total
    return max(0.0, 1 - (2 / math.pi * (angle + within) if freedom % 2 else within))


@dataclass(frozen=True)
class Trend:
    """A straight line through the values of a metric over an iteration's steps. `first` and `last` are its values at both ends."""

    first: float
    last: float
    error: float | None
    """Standard error of `last - first`, with independent steps; None for two steps."""
    clear: bool
    """Whether the change is more than noise, by a t-test of the slope and by `CLEAR`."""

    @property
    def change(self) -> float:
        """Change along the line, from the first step to the last."""
        return self.last - self.first

    @classmethod
    def of(cls, steps: Sequence[float], values: Sequence[float]) -> Trend | None:
        """Fit the trend of at least two finite values; None for fewer."""
        x, y = np.asarray(steps, float), np.asarray(values, float)
        x, y = x[np.isfinite(y)], y[np.isfinite(y)]
        if len(x) < 2 or x[0] == x[-1]:
            return None
        from_middle = x - x.mean()
        spread = float(from_middle @ from_middle)
        slope = float(from_middle @ y) / spread
        first, last = (float(y.mean()) + slope * float(end - x.mean()) for end in (x[0], x[-1]))
        if len(x) == 2:
            return cls(first, last, None, False)
        if y.min() == y.max():
            return cls(first, last, 0.0, False)
        left = y - y.mean() - slope * from_middle
        slope_error = math.sqrt(float(left @ left) / (len(x) - 2) / spread)
        error = slope_error * float(x[-1] - x[0])
        chance = student(slope / slope_error, len(x) - 2) if slope_error else float(slope == 0)
        return cls(first, last, error, chance < CHANCE and abs(last - first) >= CLEAR * error)
