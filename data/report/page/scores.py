"""Scores of a policy as `evaluate` summarises them, for the page and for the terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mathquarry.data.errors import MathQuarryError

AT_K = re.compile(r"(pass|maj)@(\d+)")
"""Names of scores at K in a summary."""

LENIENT = "lenient_"
"""Prefix of scores with the lenient reading, which also finds answers without a box."""


@dataclass(frozen=True)
class Score:
    """A share of questions with its standard error, if that is known."""

    value: float
    error: float | None

    def __str__(self) -> str:
        spread = "" if self.error is None else f" ± {100 * self.error:.1f}"
        return f"{100 * self.value:.1f}{spread} %"


@dataclass(frozen=True)
class Scores:
    """Scores of one policy. `passes` and `majorities` map K to Pass@K and Maj@K, smallest K first."""

    questions: int | None
    greedy: Score
    passes: dict[int, Score]
    majorities: dict[int, Score]

    def columns(self) -> dict[str, Score]:
        """Return the scores for a table: greedy, Pass@1, and Pass and Maj at the largest K."""
        found = {"Greedy": self.greedy}
        if 1 in self.passes:
            found["Pass@1"] = self.passes[1]
        if self.passes:
            found[f"Pass@{max(self.passes)}"] = self.passes[max(self.passes)]
        if self.majorities:
            found[f"Maj@{max(self.majorities)}"] = self.majorities[max(self.majorities)]
        return found


def read_lenient_scores(summary: Mapping[str, Any]) -> Scores | None:
    """Return the scores with the lenient reading; `None` for evaluations of earlier versions, which have none."""
    own = {name.removeprefix(LENIENT): value for name, value in summary.items() if name.startswith(LENIENT)}
    return read_scores({**own, "questions": summary.get("questions")}) if own else None


def read_scores(summary: Mapping[str, Any]) -> Scores:
    """Read `greedy`, `pass@K`, `maj@K` (shares of 1), each with `_se`, and `questions` from an evaluate summary.

    Raises `MathQuarryError` if it has no greedy accuracy.
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
    """Read one share of a summary, with its standard error."""
    error = summary.get(f"{name}_se")
    return Score(float(summary[name]), None if error is None else float(error))
