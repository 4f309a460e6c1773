"""Lila, out-of-distribution split (Mishra et al. 2022, arXiv 2210.17517): 23 kinds of mathematics with Python programs."""

from __future__ import annotations

from mathquarry.data.problems.dataset import Dataset
from mathquarry.data.problems.problem import Problem
from mathquarry.data.problems.record import Record


def _problem(record: Record) -> Problem:
    """Fields `input`, `output_answer` and `output_program`; the program is the solution, fenced."""
    program = str(record.fields.get("output_program") or "").strip()
    solution = f"```python\n{program}\n```" if program else ""
    return Problem(record.id, record.text("input").strip(), record.value("output_answer"), solution, "en", "lila-ood")


LILA_OOD = Dataset("lila-ood", "en", _problem, "hf://allenai/lila:ood:train", "hf://allenai/lila:ood:test")
