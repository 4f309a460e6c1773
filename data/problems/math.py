r"""MATH (Hendrycks et al. 2021, arXiv 2103.03874): competition problems whose solutions box the answer."""

from __future__ import annotations

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems.answers import extract_answer
from mathquarry.data.problems.dataset import Dataset
from mathquarry.data.problems.problem import Problem
from mathquarry.data.problems.record import Record

SOURCE = "math"


def _problem(record: Record) -> Problem:
    r"""Fields `problem` and `solution`; the answer is the content of the last `\boxed{}` in the solution.

    Two published training solutions have no box. They get an empty answer, and the stage drops them.
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
