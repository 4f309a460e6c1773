"""Encodes training questions as prompts of one policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems.problem import Problem, problems_of, read_problems
from mathquarry.data.solutions.config import SolutionFormat
from mathquarry.models.policy.prompts import Prompter


@dataclass(frozen=True, slots=True)
class Question:
    """A problem and the tokens of its prompt."""

    problem: Problem
    prompt: list[int]


def read_questions(
    file: Path,
    prompter: Prompter,
    context_tokens: int | None,
    format: SolutionFormat = "cot",
    sets: Sequence[str] = (),
) -> tuple[list[Question], int]:
    """Read the problems in `file` as questions for solutions of `format`, in order. Also returns the number of questions left out.

    Only problems of `sets` are read, if any are named. A question is left out if its prompt leaves no room for an answer in
    `context_tokens` (`None`: no limit). Raises `MathQuarryError` if the file cannot be read, has no problem of a set, or no question is
    left.
    """
    problems = problems_of(read_problems(file), sets)
    asked = [Question(problem, prompter.encode(problem.question, format, problem.language)) for problem in problems]
    questions = [question for question in asked if context_tokens is None or len(question.prompt) < context_tokens]
    if not questions:
        raise MathQuarryError(
            f"{file}: all {len(problems)} questions are longer than the model's context of {context_tokens} tokens. "
            "Use shorter questions or a model with a longer context."
        )
    return questions, len(problems) - len(questions)
