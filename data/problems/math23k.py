"""Math23K (Wang et al. 2017): Chinese word problems with an equation."""

from __future__ import annotations

import re

from mathquarry.data.problems.dataset import Dataset
from mathquarry.data.problems.problem import Problem
from mathquarry.data.problems.record import Record

_FRACTION = re.compile(r"(\d*)\(\((\d+)\)/\((\d+)\)\)")


def _problem(record: Record) -> Problem:
    """Fields `original_text`, `equation` and `ans`; fractions are written `3((1)/(2))`."""
    answer = _FRACTION.sub(lambda found: rf"{found[1]}\frac{{{found[2]}}}{{{found[3]}}}", record.value("ans"))
    return Problem(record.id, record.text("original_text").strip(), answer, record.text("equation").strip(), "zh", "math23k")


MATH23K = Dataset("math23k", "zh", _problem, "hf://Gxg/Math23K:default:train", "hf://Gxg/Math23K:default:test")
