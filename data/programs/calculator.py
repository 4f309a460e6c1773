"""Calculator marks (`<<48/2=24>>`, GSM8K) -> a program whose every line is one step of the solution."""

from __future__ import annotations

import ast
import re
from fractions import Fraction

from data.programs.arithmetic import ProgramError, evaluate, run_program

_MARK = re.compile(r"<<([^<>]*)>>")
_NUMBER = re.compile(r"\d+(?:\.\d*)?|\.\d+")


class AnswerDiffersError(ProgramError):
    """A program that runs and prints something other than the gold answer."""


def strip_marks(solution: str) -> str:
    """The solution as a person would write it, without calculator marks."""
    return _MARK.sub("", solution)


def program_from_marks(solution: str, reuse: bool = True) -> str | None:
    """A program with one assignment a mark that prints the last; `None` when the solution has no marks.

    With `reuse`, a number equal to the result of an earlier step is written as that step's variable, the latest such step first:
    `<<48/2=24>><<48+24=72>>` becomes `a=48/2`, `b=48+a`, `print(b)`. That is a guess by value, so verify the program.
    Raises `ProgramError` for a mark that is not `expression=number`.
    """
    marks = _MARK.findall(solution)
    if not marks:
        return None
    names: dict[Fraction, str] = {}
    lines: list[str] = []
    name = ""
    for step, mark in enumerate(marks):
        expression, equals, result = mark.replace(",", "").replace("$", "").rpartition("=")
        if not equals:
            raise ProgramError(f"the mark <<{mark}>> has no `=`")
        name = variable(step)
        lines.append(f"{name}={_rewrite(expression, names if reuse else {})}")
        names[_number(result, mark)] = name
    return "\n".join([*lines, f"print({name})"])


def verified_program(solution: str, answer: str) -> str | None:
    """A program from the solution's marks that prints the gold answer; `None` when the solution has no marks.

    Earlier results are reused where that leads to the gold answer; where rounding between steps spoils it, the written numbers are kept.
    Raises `AnswerDiffersError` when a program runs but none prints the gold answer, and `ProgramError` when none runs.
    """
    failure: ProgramError | None = None
    for reuse in (True, False):
        program = program_from_marks(solution, reuse)
        if program is None:
            return None
        try:
            printed = run_program(program)
        except ProgramError as error:
            failure = failure or error
            continue
        if same_number(printed, answer):
            return program
        failure = AnswerDiffersError(f"the program prints {printed}, the answer is {answer}")
    assert failure is not None, "both programs either returned or left a failure"
    raise failure


def same_number(printed: str, answer: str) -> bool:
    """Whether both are numbers of one value: 3.50 and 3.5."""
    try:
        return Fraction(printed) == Fraction(answer)
    except (ValueError, ZeroDivisionError):
        return False


def variable(step: int) -> str:
    """Names of steps: a, b, ..., z, a1, b1, ..."""
    letter, turn = chr(ord("a") + step % 26), step // 26
    return f"{letter}{turn}" if turn else letter


def _rewrite(expression: str, names: dict[Fraction, str]) -> str:
    """The expression without spaces, numbers in Python's form (no leading zeros), known values as names."""

    def write(match: re.Match[str]) -> str:
        value = Fraction(match[0])
        return names.get(value) or _plain(match[0])

    return _NUMBER.sub(write, "".join(expression.split()))


def _plain(number: str) -> str:
    whole, point, part = number.partition(".")
    return (whole.lstrip("0") or "0") + (point + part if part else "")


def _number(result: str, mark: str) -> Fraction:
    try:
        return evaluate(ast.parse(_rewrite(result, {}), mode="eval").body, {})
    except (SyntaxError, ProgramError):
        raise ProgramError(f"the result of the mark <<{mark}>> is not a number") from None
