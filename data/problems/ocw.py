"""OCW courses (Lewkowycz et al. 2022, arXiv 2206.14858): 272 undergraduate questions, for scores only."""

from __future__ import annotations

from mathquarry.data.problems.dataset import Dataset
from mathquarry.data.problems.problem import Problem
from mathquarry.data.problems.record import Record

TOLERANCE = 0.01
"""Relative error of a numeric answer that its authors accept."""


def _problem(record: Record) -> Problem:
    """Fields `problem`, `solution` and `answer`; some answers are numpy code, whose names are LaTeX's with a backslash."""
    answer = record.text("answer").strip().replace("np.", "\\")
    return Problem(record.id, record.text("problem").strip(), answer, record.text("solution").strip(), "en", "ocw", TOLERANCE)


OCW = Dataset("ocw", "en", _problem)
