"""The verdict on an answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is right, and the reason: "equal numbers", "timed out", "no answer", ..."""

    correct: bool
    reason: str
