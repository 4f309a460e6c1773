"""Stage `curate`: turns training problems into solutions in the three formats of the paper's section 3.1.

Simplifications compared with the paper:
1. Every solution comes from the problem's own worked solution, or from a file that the recipe names; a model writes none.
2. Programs come from the calculations in it, so only problems whose solutions calculate with numbers (GSM8K, generated ones) get
   program-of-thought and tool-integrated solutions.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Literal, get_args

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import write_json_lines
from mathquarry.data.problems.build import BENCHMARKS, TEST, TRAIN
from mathquarry.data.problems.generated import SOURCE as GENERATED
from mathquarry.data.problems.math import SOURCE as MATH
from mathquarry.data.problems.problem import Problem, question_key, read_problems
from mathquarry.data.programs.arithmetic import ProgramError, python_output
from mathquarry.data.programs.calculator import AnswerDiffersError, verified_program
from mathquarry.data.solutions.config import CurateConfig, SolutionFormat
from mathquarry.data.solutions.example import Example, Segment, write_examples
from mathquarry.data.solutions.formats import chain_of_thought, program_of_thought, tool_integrated, with_wrong_last_step
from mathquarry.data.solutions.own import own_examples
from mathquarry.data.store.workspace import Workspace

EXAMPLES, DROPPED = "examples.jsonl", "dropped.jsonl"
DropReason = Literal[
    "held-out", "no-solution", "answer-not-boxed", "no-calculation", "answer-not-a-number", "program-differs-from-answer", "fails-in-python"
]
FORMATS: tuple[SolutionFormat, ...] = get_args(SolutionFormat)


class _Dropped(Exception):
    """A solution that cannot be made, with the reason for the record."""

    def __init__(self, reason: DropReason, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


def curate(config: CurateConfig, problems: Path, workspace: Workspace) -> dict[str, int]:
    """Write examples.jsonl (`Example` records) and dropped.jsonl (`id`, `format`, `reason`, `detail`); returns counts by format and reason.

    `problems` is the folder of the `problems` artifact. Examples are in the order of the problems, then cot, pot, tool, followed by
    those of `config.files`, in file and row order. Whether a problem gets a format, or a wrong step, depends only on the seed and its id.
    Raises `MathQuarryError` when no solution could be made, and for a share of `formats` above 1.
    """
    for format, share in config.formats.items():
        if share > 1:
            raise MathQuarryError(f"curate.formats.{format} is {share}: it is a share of the problems, at most 1.")
    examples: list[Example] = []
    dropped: list[dict[str, str]] = []
    wrong_steps = 0
    train = read_problems(problems / TRAIN)
    with workspace.progress.track("curate", len(train), "problem") as bar:
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
    _add_own(config, problems, examples, dropped)
    if not examples:
        reasons = ", ".join(sorted({record["reason"] for record in dropped})) or "no format was chosen for any problem"
        raise MathQuarryError(f"{problems / TRAIN}: none of {len(train)} problems gave a solution ({reasons}); see curate.formats.")
    write_examples(workspace.out / EXAMPLES, examples)
    write_json_lines(workspace.out / DROPPED, dropped)
    return _summary(len(train), examples, dropped, wrong_steps)


def _add_own(config: CurateConfig, problems: Path, examples: list[Example], dropped: list[dict[str, str]]) -> None:
    """Add the examples of `config.files`, without those to held-out questions."""
    if not config.files:
        return
    held_out = {question_key(problem.question) for name in (TEST, BENCHMARKS) for problem in _problems_in(problems / name)}
    for files in config.files:
        for example in own_examples(files):
            if question_key(example.question) in held_out:
                dropped.append({"id": example.problem_id, "format": example.format, "reason": "held-out", "detail": files.path})
            else:
                examples.append(example)


def _problems_in(path: Path) -> list[Problem]:
    """Its problems; of a set that has no further benchmarks the file is empty."""
    return read_problems(path) if path.stat().st_size else []


def _solution(problem: Problem, format: SolutionFormat, wrong: bool) -> list[Segment]:
    """The solution in one format. Raises `_Dropped` if the problem has none."""
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
    """A number in [0, 1) that depends only on its arguments, so the order of problems and other fields do not matter."""
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
