"""Scores of a policy as `evaluate` summarises them, for the page and for the terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from data.errors import MathQuarryError

AT_K = re.compile(r"(pass|maj)@(\d+)")
"""Names of the scores at K in a summary."""


@dataclass(frozen=True)
class Score:
    """A share of questions with its standard error, if that is known."""

    value: float
    error: float | None

    def __str__(self) -> str:
        spread = "" if self.error is None else f" ± {100 * self.error:.1f}"
        return f"{100 * self.value:.1f}{spread} %"

    def minus(self, other: Score) -> str:
        """The difference in points with its standard error, the two being taken as independent (which overstates the error)."""
        points = f"{100 * (self.value - other.value):+.1f}"
        if self.error is None or other.error is None:
            return points
        return f"{points} ± {100 * math.hypot(self.error, other.error):.1f}"


@dataclass(frozen=True)
class Scores:
    """Scores of one policy. `passes` and `majorities` map K to Pass@K and Maj@K, smallest K first."""

    questions: int | None
    greedy: Score
    passes: dict[int, Score]
    majorities: dict[int, Score]

    def columns(self) -> dict[str, Score]:
        """What a table shows: greedy, Pass@1, and Pass and Maj at the largest K."""
        found = {"Greedy": self.greedy}
        if 1 in self.passes:
            found["Pass@1"] = self.passes[1]
        if self.passes:
            found[f"Pass@{max(self.passes)}"] = self.passes[max(self.passes)]
        if self.majorities:
            found[f"Maj@{max(self.majorities)}"] = self.majorities[max(self.majorities)]
        return found


def read_scores(summary: Mapping[str, Any]) -> Scores:
    """Read `greedy`, `pass@K`, `maj@K` (shares of 1), each with `_se`, and `questions` from an evaluate summary.

    Raises `MathQuarryError` when it has no greedy accuracy.
    """
    if "greedy" not in summary:
        raise MathQuarryError(
            f"an evaluate summary has no `greedy` score, only {', '.join(summary) or 'nothing'}. Evaluate that policy again."
        )
    at_k: dict[str, dict[int, Score]] = {"pass": {}, "maj": {}}
    for name in summary:
        if match := AT_K.fullmatch(name):
            at_k[match[1]][int(match[2])] = read_score(summary, name)
    questions = summary.get("questions")
    return Scores(
        int(questions) if questions is not None else None,
        read_score(summary, "greedy"),
        dict(sorted(at_k["pass"].items())),
        dict(sorted(at_k["maj"].items())),
    )


def read_score(summary: Mapping[str, Any], name: str) -> Score:
    """One share of a summary, with the standard error beside it."""
    error = summary.get(f"{name}_se")
    return Score(float(summary[name]), None if error is None else float(error))
