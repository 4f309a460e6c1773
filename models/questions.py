"""Training questions as prompts of one policy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data.errors import MathQuarryError
from data.problems.problem import Problem, read_problems
from models.prompts import Prompter


@dataclass(frozen=True, slots=True)
class Question:
    """A problem and the prompt tokens that ask a policy for its chain-of-thought solution."""

    problem: Problem
    prompt: list[int]


def read_questions(file: Path, prompter: Prompter, context_tokens: int | None) -> tuple[list[Question], int]:
    """The problems of `file` as questions, in the file's order, and how many were left out.

    A prompt that leaves no room for an answer in `context_tokens` (`None`: no limit) is left out. Raises `MathQuarryError` when the file
    cannot be read or no question is left.
    """
    problems = read_problems(file)
    asked = [Question(problem, prompter.encode(problem.question, "cot", problem.language)) for problem in problems]
    questions = [question for question in asked if context_tokens is None or len(question.prompt) < context_tokens]
    if not questions:
        raise MathQuarryError(
            f"{file}: all {len(problems)} questions are longer than the model's context of {context_tokens} tokens. "
            "Use shorter questions or a model with a longer context."
        )
    return questions, len(problems) - len(questions)
