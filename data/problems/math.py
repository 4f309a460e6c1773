r"""MATH (Hendrycks et al. 2021, arXiv 2103.03874): competition problems whose solutions box the answer."""

from __future__ import annotations

from data.errors import MathQuarryError
from data.problems.dataset import Dataset
from data.problems.problem import Problem
from data.problems.records import Record
from data.solutions.answers import extract_answer

SOURCE = "math"


def _problem(record: Record) -> Problem:
    r"""Fields `problem` and `solution`; the answer is what the solution's last `\boxed{}` holds.

    Two published training solutions box nothing: those have an empty answer here, and the stage drops them.
    """
    question, solution = record.text("problem"), record.text("solution")
    answer = extract_answer(solution)
    if answer is None:
        raise MathQuarryError(rf"{record.place}: no answer in \boxed{{}} in field `solution`.")
    return Problem(record.id, question.strip(), answer, solution.strip(), "en", SOURCE)


MATH = Dataset(
    SOURCE, "en", _problem, "hf://DigitalLearningGmbH/MATH-lighteval:default:train", "hf://DigitalLearningGmbH/MATH-lighteval:default:test"
)
load = MATH.load
