r"""The three formats of a solution, as segments that are trained or only read (paper section 3.1).

Chain-of-thought is text that ends in `\boxed{answer}`; program-of-thought is a Python program that prints the answer; tool-integrated is
reasoning, a program, its output (read but not trained, since the tool wrote it, ToRA section 2) and the boxed answer.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from typing import get_args

from mathquarry.data.problems.answers import extract_answer
from mathquarry.data.problems.config import ProblemSet
from mathquarry.data.problems.generated import SOURCE as GENERATED
from mathquarry.data.problems.math import SOURCE as MATH
from mathquarry.data.problems.problem import Problem
from mathquarry.data.programs.arithmetic import python_output
from mathquarry.data.programs.calculator import strip_marks
from mathquarry.data.solutions.example import Segment

_PROGRAM = re.compile(r"```(?:python|py)[^\S\n]*\n(.*?)(?<=\n)[^\S\n]*```", re.DOTALL)


def chain_of_thought(problem: Problem) -> list[Segment] | None:
    r"""Return the worked solution without calculator marks, with `\boxed{answer}` as its last line.

    A MATH solution is not changed, since it boxes the answer in its own sentence; `None` if it does not. A solution of a user's own set is
    not changed if it boxes the answer.
    """
    boxed = extract_answer(problem.solution)
    if problem.source == MATH:
        return [Segment(problem.solution)] if boxed == problem.answer else None
    if boxed == problem.answer and problem.source not in (GENERATED, *get_args(ProblemSet)):
        return [Segment(problem.solution)]
    return [Segment(f"{strip_marks(problem.solution)}\n{_boxed(problem.answer)}")]


def with_wrong_last_step(problem: Problem) -> list[Segment] | None:
    r"""The chain of thought of a generated problem, with a last step that adds instead of subtracting, or the reverse.

    `None` if that makes no difference, since one of the numbers is 0.
    """
    assert problem.source == GENERATED, "only generated solutions are known to end in `...=result`"
    *before, last = strip_marks(problem.solution).split("\n")
    calculation = last.partition("=")[0]
    first, second = (int(number) for number in re.split("[+-]", calculation))
    if "-" in calculation:
        wrong, result = f"{first}+{second}", first + second
    else:
        # The larger number comes first, as in every correct difference.
        larger, smaller = max(first, second), min(first, second)
        wrong, result = f"{larger}-{smaller}", larger - smaller
    if str(result) == problem.answer:
        return None
    return [Segment("\n".join([*before, f"{wrong}={result}", _boxed(str(result))]))]


def program_of_thought(program: str) -> list[Segment]:
    """A fenced Python program that prints the answer, and nothing else."""
    return [Segment(f"```python\n{program}\n```")]


def tool_integrated(problem: Problem, program: str) -> list[Segment]:
    r"""The first sentence of the solution if it has sentences, the program, its output, and `\boxed{answer}`."""
    opening = "" if problem.source == GENERATED else strip_marks(problem.solution).split("\n", 1)[0] + "\n"
    return [
        Segment(f"{opening}```python\n{program}\n```\n"),
        Segment(output_block(python_output(program)), trained=False),
        Segment(_boxed(problem.answer)),
    ]


@dataclass(frozen=True)
class CodeBlock:
    """A fenced Python program in a text, and the text after its closing fence."""

    program: str
    rest: str


def first_program(text: str) -> CodeBlock | None:
    """The first complete ```` ```python ```` block; its closing fence is at the start of a line. `None` if there is none."""
    found = _PROGRAM.search(text)
    return CodeBlock(textwrap.dedent(found[1]), text[found.end() :]) if found else None


def output_block(output: str) -> str:
    """The text shown in a dialogue after a program, including the line break. Tool-integrated solutions use the same form."""
    return f"```output\n{output}\n```\n"


def _boxed(answer: str) -> str:
    return rf"\boxed{{{answer}}}"
