"""CMATH (Wei et al. 2023, arXiv 2306.16636): Chinese primary-school word problems, for scores only."""

from __future__ import annotations

from mathquarry.data.problems.dataset import Dataset
from mathquarry.data.problems.problem import Problem
from mathquarry.data.problems.record import Record


def _problem(record: Record) -> Problem:
    """Fields `question` and `golden`."""
    return Problem(record.id, record.text("question").strip(), record.value("golden"), "", "zh", "cmath")


CMATH = Dataset("cmath", "zh", _problem, hub_test="hf://weitianwen/cmath::test")
