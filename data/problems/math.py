r"""MATH (Hendrycks et al. 2021, arXiv 2103.03874): competition problems whose solutions box the answer."""

from __future__ import annotations

import re

from data.errors import MathQuarryError
from data.problems.dataset import Dataset
from data.problems.problem import Problem
from data.problems.records import Record
from data.solutions.answers import extract_answer

SOURCE = "math"
_UNBRACED = re.compile(r"\\boxed\s+([^\s$\\{}.,]+)")


def _problem(record: Record) -> Problem:
    r"""Fields `problem` and `solution`; the answer is what the solution's last `\boxed{}` holds.

    Two published training solutions write `\boxed 2`, and two box nothing: those have an empty answer here, and the stage drops them.
    """
    question, solution = record.text("problem"), record.text("solution")
    answer = boxed_answer(solution)
    if answer is None:
        raise MathQuarryError(rf"{record.place}: no answer in \boxed{{}} in field `solution`.")
    return Problem(record.id, question.strip(), answer, solution.strip(), "en", SOURCE)


def boxed_answer(solution: str) -> str | None:
    r"""The answer in `\boxed{}`, or the word after an unbraced `\boxed`; `None` where there is neither."""
    answer = extract_answer(solution)
    if answer is not None:
        return answer
    unbraced = _UNBRACED.findall(solution)
    return unbraced[-1] if unbraced else None


MATH = Dataset(
    SOURCE, "en", _problem, "hf://DigitalLearningGmbH/MATH-lighteval:default:train", "hf://DigitalLearningGmbH/MATH-lighteval:default:test"
)
load = MATH.load
