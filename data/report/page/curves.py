"""The curves that tell most of a stage, for where there is room for a few."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

FIRST = ("reward", "accuracy", "kl", "test_accuracy", "loss", "tokens_per_second")
"""Metrics that come before others."""


def main_curves(records: Sequence[dict[str, Any]], most: int) -> dict[str, list[tuple[float, float]]]:
    """Up to `most` metrics of records {"step", "values"}, each with its finite points (step, value), of which it has two at least."""
    found: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        for name, value in record["values"].items():
            if math.isfinite(value):
                found.setdefault(name, []).append((record["step"], value))
    drawable = [name for name, points in found.items() if len(points) > 1]
    ordered = sorted(drawable, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    return {name: found[name] for name in ordered[:most]}
