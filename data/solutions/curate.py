"""Stage `curate`: training problems -> solutions in the three formats of the paper's section 3.1.

Simplifications against the paper: 1. every solution comes from the problem's own worked solution; none is written by a model. 2. Programs
come from the calculations in it, so only problems whose solutions calculate in numbers (GSM8K, generated ones) get program-of-thought
and tool-integrated solutions.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Literal, get_args

from data.config import CurateConfig, SolutionFormat
from data.errors import MathQuarryError
from data.files import write_json_lines
from data.problems.build import TRAIN
from data.problems.generated import SOURCE as GENERATED
from data.problems.math import SOURCE as MATH
from data.problems.problem import Problem, read_problems
from data.programs.arithmetic import ProgramError, python_output
from data.programs.calculator import AnswerDiffersError, verified_program
from data.solutions.example import Example, Segment, write_examples
from data.solutions.formats import chain_of_thought, program_of_thought, tool_integrated, with_wrong_last_step
from data.workspace import Workspace

EXAMPLES, DROPPED = "examples.jsonl", "dropped.jsonl"
DropReason = Literal[
    "no-solution", "answer-not-boxed", "no-calculation", "answer-not-a-number", "program-differs-from-answer", "fails-in-python"
]
FORMATS: tuple[SolutionFormat, ...] = get_args(SolutionFormat)


class _Dropped(Exception):
    """A solution that cannot be made, with the reason that is recorded."""

    def __init__(self, reason: DropReason, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


def curate(config: CurateConfig, problems: Path, space: Workspace) -> dict[str, int]:
    """Write examples.jsonl (`Example` records) and dropped.jsonl (`id`, `format`, `reason`, `detail`); returns counts by format and reason.

    `problems` is the folder of the `problems` artifact. Examples come in the order of the problems, then cot, pot, tool. Whether a problem
    gets a format, or a wrong step, depends on the seed and its id alone. Raises `MathQuarryError` when no solution could be made, and for
    a share of `formats` above 1.
    """
    for format, share in config.formats.items():
        if share > 1:
            raise MathQuarryError(f"curate.formats.{format} is {share}: it is a share of the problems, at most 1.")
    examples: list[Example] = []
    dropped: list[dict[str, str]] = []
    wrong_steps = 0
    train = read_problems(problems / TRAIN)
    with space.progress.track("curate", len(train), "problem") as bar:
        for problem in train:
            wrong = _plants_wrong_step(problem, config)
            for format in FORMATS:
                if _chance(config.seed, problem, format) >= config.formats.get(format, 0.0):
                    continue
                try:
                    segments = _solution(problem, format, wrong)
                except _Dropped as drop:
                    dropped.append({"id": problem.id, "format": format, "reason": drop.reason, "detail": drop.detail})
                    continue
                wrong_steps += wrong and format == "cot"
                examples.append(Example(problem.id, problem.question, format, problem.language, segments, problem.answer))
            bar.advance()
    if not examples:
        reasons = ", ".join(sorted({record["reason"] for record in dropped})) or "no format was chosen for any problem"
        raise MathQuarryError(f"{problems / TRAIN}: none of {len(train)} problems gave a solution ({reasons}); see curate.formats.")
    write_examples(space.out / EXAMPLES, examples)
    write_json_lines(space.out / DROPPED, dropped)
    return _summary(len(train), examples, dropped, wrong_steps)


def _solution(problem: Problem, format: SolutionFormat, wrong: bool) -> list[Segment]:
    """The solution in one format. Raises `_Dropped` where the problem gives none."""
    if not problem.solution:
        raise _Dropped("no-solution")
    if format == "cot":
        segments = with_wrong_last_step(problem) if wrong else chain_of_thought(problem)
        if segments is None:
            raise _Dropped("answer-not-boxed")
        return segments
    if problem.source == MATH:
        raise _Dropped("no-calculation", "its solutions calculate in LaTeX; sample programs from a model instead")
    try:
        program = verified_program(problem.solution, problem.answer, problem.question)
    except AnswerDiffersError as error:
        raise _Dropped("program-differs-from-answer", str(error)) from None
    except ProgramError as error:
        raise _Dropped("answer-not-a-number", str(error)) from None
    if program is None:
        raise _Dropped("no-calculation")
    try:
        python_output(program)
    except ProgramError as error:  # it was checked in fractions, and Python has floats
        raise _Dropped("fails-in-python", str(error)) from None
    return program_of_thought(program) if format == "pot" else tool_integrated(problem, program)


def _plants_wrong_step(problem: Problem, config: CurateConfig) -> bool:
    chosen = problem.source == GENERATED and _chance(config.seed, problem, "wrong step?") < config.wrong_step_share
    return chosen and with_wrong_last_step(problem) is not None


def _chance(seed: int, problem: Problem, what: str) -> float:
    """A number in [0, 1) that depends on nothing but its arguments, so the order of problems and other fields do not matter."""
    return random.Random(f"{what}/{seed}/{problem.id}").random()


def _summary(problems: int, examples: list[Example], dropped: list[dict[str, str]], wrong_steps: int) -> dict[str, int]:
    formats = Counter(example.format for example in examples)
    reasons = Counter(record["reason"] for record in dropped)
    return {
        "problems": problems,
        "examples": len(examples),
        **{f"examples_{format}": formats[format] for format in FORMATS},
        "wrong_steps": wrong_steps,
        "dropped": len(dropped),
        **{f"dropped_{reason}": reasons[reason] for reason in get_args(DropReason)},
    }
