"""The outcome of comparing two answers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """Whether two answers are equivalent, and the reason."""

    equal: bool
    reason: str
