"""Chinese K-12 problems. The paper's own collection is not public; the nearest public one is `cn_k12` in NuminaMath (translated)."""

from __future__ import annotations

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems.answers import extract_answer
from mathquarry.data.problems.benchmark import language_of
from mathquarry.data.problems.dataset import Dataset
from mathquarry.data.problems.problem import Problem
from mathquarry.data.problems.record import Record


def _problem(record: Record) -> Problem | None:
    r"""Fields `problem` or `question`, `solution`, and `answer` or a `\boxed{}` in the solution; with a field `source`, only `cn_k12`."""
    if record.fields.get("source", "cn_k12") != "cn_k12":
        return None
    question = record.text("problem" if "problem" in record.fields else "question").strip()
    solution = record.text("solution").strip()
    answer = record.value("answer") if record.fields.get("answer") is not None else extract_answer(solution)
    if answer is None:
        raise MathQuarryError(rf"{record.place}: no field `answer`, and no \boxed{{}} in field `solution`.")
    return Problem(record.id, question, answer, solution, language_of(question), "cn-k12")


CN_K12 = Dataset("cn-k12", "zh", _problem, "hf://AI-MO/NuminaMath-CoT:default:train")
