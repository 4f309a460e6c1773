r"""MATH (Hendrycks et al. 2021, arXiv 2103.03874): competition problems whose solutions box the answer."""

from __future__ import annotations

import re

from data.errors import MathQuarryError
from data.problems.problem import Problem
from data.problems.records import Record, read_records
from data.solutions.answers import extract_answer

SOURCE = "math"
_UNBRACED = re.compile(r"\\boxed\s+([^\s$\\{}.,]+)")


def load(path: str) -> list[Problem]:
    r"""Problems of a JSONL file (may be gzipped) or `hf://owner/name:config:split`; fields `problem` and `solution`.

    The answer is what the solution's last `\boxed{}` holds; two published training solutions write `\boxed 2`, and two box nothing:
    those have an empty answer here, and the stage drops them. Raises `MathQuarryError` naming file and line for a bad record or one
    without box, and for an empty file.
    """
    return [_problem(record) for record in read_records(path)]


def _problem(record: Record) -> Problem:
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
