"""Converts worked solutions to programs, one line per step, which are run and compared with the gold answer.

GSM8K marks its calculations (`<<48/2=24>>`). If marks are missing or calculate nothing (`x=<<20=20>>20`), the equations in the text are
read (`data/programs/steps.py`). A program follows the solution: no line is a bare number or derives the gold answer from itself (`30*1`),
so the answer is always computed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Literal, get_args

from mathquarry.data.programs.arithmetic import ProgramError, run_program
from mathquarry.data.programs.equations import computes, parse_expression, read_tokens, source_of, value_of
from mathquarry.data.programs.steps import Step, mark_steps, text_steps

Reuse = Literal["all", "exact"]
_MARK = re.compile(r"<<[^<>]*>>")
_ROUNDS = re.compile(
    r"\bround|\bwhole\b|\bhalf an?\b|\bcan(?:no|')?t\b|\bcan not\b|\bneeds?\b|\bleast\b|\bmost\b|\bmore than\b|\bfull\b", re.I
)
_CONVERSIONS = [
    ("dollar|\\$", "cent", 100),
    ("hour", "minute", 60),
    ("minute", "second", 60),
    ("year", "month", 12),
    ("dozen", "", 12),
    ("f(?:ee|oo)t", "inch", 12),
    ("week", "day", 7),
    ("day", "hour", 24),
    ("cup", "pint", 2),
]
"""Conversion factors between units."""
_ALWAYS_GIVEN = {Fraction(number) for number in (7, 12, 24, 30, 52, 60, 100, 365, 1000)}
"""Numbers that a question need not mention: days in a week, months in a year, ..."""


class AnswerDiffersError(ProgramError):
    """None of the programs that run prints the gold answer by computing it."""


def strip_marks(solution: str) -> str:
    """The solution as a person would write it, without calculator marks."""
    return _MARK.sub("", solution)


def verified_program(solution: str, answer: str, question: str = "") -> str | None:
    """A program of the solution's own calculations that prints the gold answer; `None` if the solution has no calculation.

    Tries all calculations first, then only the marked ones. Earlier results are reused as variables; if rounding between steps makes the
    answer wrong, rounded results stay as written. If the last calculation is not the answer, one that the solution names at its end is
    printed, or the last is rounded or converted as the text says (percent, minutes, cents).

    `question` shows which numbers are given. Raises `AnswerDiffersError` when there are programs but none prints the gold answer, and
    `ProgramError` when the gold answer is not a number.
    """
    try:
        gold = Fraction(answer.replace(",", ""))
    except (ValueError, ZeroDivisionError):
        raise ProgramError(f"the answer {answer} is not a number") from None
    given = set(_numbers_in_order(question)) | _ALWAYS_GIVEN
    printed: list[str] = []
    found = False
    for steps, definitions in _readings(solution):
        found = found or bool(steps)
        for program in _programs(steps, definitions, solution, question, gold):
            try:
                printed.append(run_program(program))
            except ProgramError:
                continue
            if same_number(printed[-1], answer) and not _begs_the_question(program, gold, given):
                return program
    if not found:
        return None
    raise AnswerDiffersError(f"the program prints {printed[0] if printed else 'nothing'}, the answer is {answer}")


def program_of(steps: list[Step], reuse: Reuse = "all", closing: str = "") -> str:
    """One assignment per step, and a print of the last.

    With `reuse` = "all", a number equal to the result of an earlier step is written as that step's variable, the latest such step first:
    48/2=24, 48+24=72 becomes `a=48/2`, `b=48+a`, `print(b)`. "exact" does so only for results that the solution did not round. This
    guesses by value, so verify the program. `closing` is a final calculation on the result so far, `{}`.
    """
    lines: list[str] = []
    names: dict[Fraction, str] = {}
    unknowns: dict[str, str] = {}
    for number, step in enumerate(steps):
        name = variable(number)
        lines.append(f"{name}={_rewritten(step.expression, unknowns, names)}")
        if reuse == "all" or (reuse == "exact" and step.exact):
            names[step.value] = name
        if step.unknown:
            unknowns[step.unknown] = name
    last = variable(len(steps) - 1)
    if closing:
        last = variable(len(steps))
        lines.append(f"{last}={closing.format(variable(len(steps) - 1))}")
    return "\n".join([*lines, f"print({last})"])


def same_number(printed: str, answer: str) -> bool:
    """Whether both are numbers with equal values: 3.50 and 3.5."""
    try:
        return Fraction(printed) == Fraction(answer.replace(",", ""))
    except (ValueError, ZeroDivisionError):
        return False


def variable(step: int) -> str:
    """Names of steps: a, b, ..., z, a1, b1, ..."""
    letter, turn = chr(ord("a") + step % 26), step // 26
    return f"{letter}{turn}" if turn else letter


def _rewritten(expression: ast.expr, unknowns: dict[str, str], names: dict[Fraction, str]) -> str:
    """Source of an expression with unknowns and known results as variables.

    If a number occurs twice, only one is a result: in `60/60`, one is the computed minutes, the other the minutes in an hour.
    """
    node = parse_expression(source_of(expression))
    assert node is not None, "what was parsed before is written again"
    divisors = {id(part.right) for part in ast.walk(node) if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Div)}
    numbers = [part for part in ast.walk(node) if isinstance(part, ast.Constant)]
    chosen: dict[Fraction, ast.Constant] = {}
    for number in sorted(numbers, key=lambda part: (id(part) in divisors, part.col_offset)):
        chosen.setdefault(Fraction(str(number.value)), number)
    results = {id(number): names[value] for value, number in chosen.items() if value in names}

    class Rewriter(ast.NodeTransformer):
        def visit_Constant(self, part: ast.Constant) -> ast.expr:
            return ast.Name(results[id(part)]) if id(part) in results else part

        def visit_Name(self, part: ast.Name) -> ast.expr:
            return ast.Name(unknowns.get(part.id, part.id))

    return source_of(Rewriter().visit(node))


def _readings(solution: str) -> Iterator[tuple[list[Step], list[Step]]]:
    yield text_steps(solution, percent_is_hundredth=False)
    if "%" in solution:
        yield text_steps(solution, percent_is_hundredth=True)
    yield mark_steps(solution), []


def _programs(steps: list[Step], definitions: list[Step], solution: str, question: str, gold: Fraction) -> Iterator[str]:
    """Programs to try, the simplest first."""
    if not steps:
        return
    modes = get_args(Reuse)
    yield from (program_of(steps, mode) for mode in modes)
    numbers = _numbers_in_order(strip_marks(solution))
    ends_in_answer = bool(numbers) and numbers[-1] == gold
    if ends_in_answer:
        named = [place for place, step in enumerate(steps) if step.value == gold]
        yield from (program_of(steps[: place + 1], mode) for place in reversed(named) for mode in modes)
        yield from (program_of([*steps, last]) for last in definitions if last.value == gold)
    for closing in _closings(f"{question} {solution}", ends_in_answer and _ROUNDS.search(solution) is not None):
        yield from (program_of(steps, mode, closing) for mode in modes)


def _closings(text: str, rounds: bool) -> list[str]:
    """Final calculations that the text may express only in words: percent, another unit, rounding up or down."""
    closings = ["{}*100"] if "%" in text or "percent" in text else []
    for large, small, factor in _CONVERSIONS:
        if re.search(large, text, re.I) and re.search(small, text, re.I):
            closings += [f"{{}}*{factor}", f"{{}}/{factor}"]
    if rounds:
        closings += [f"{sign}({sign}{closing}//1)" if sign else f"{closing}//1" for closing in ["{}", *closings] for sign in ("-", "")]
    return closings


def _numbers_in_order(text: str) -> list[Fraction]:
    return [Fraction(token.text) for token in read_tokens(text) if token.kind in ("number", "percent") and "(" not in token.text]


def _begs_the_question(program: str, gold: Fraction, given: set[Fraction]) -> bool:
    """Whether a line is a bare number, or derives the gold answer from itself: `30*1`, if 30 is not given."""
    values: dict[str, Fraction] = {}
    for line in ast.parse(program).body:
        if not isinstance(line, ast.Assign):
            continue
        if not computes(line.value):
            return True
        if gold not in given and any(_is_idle(part, gold, values) for part in ast.walk(line.value)):
            return True
        target, value = line.targets[0], value_of(line.value, values)
        assert isinstance(target, ast.Name)
        assert value is not None, "the program ran"
        values[target.id] = value
    return False


def _is_idle(part: ast.AST, number: Fraction, values: dict[str, Fraction]) -> bool:
    """Whether an operation leaves a written number unchanged: `30*1`, `30+0`."""
    if not isinstance(part, ast.BinOp):
        return False
    neutral = {ast.Add: 0, ast.Sub: 0, ast.Mult: 1, ast.Div: 1}.get(type(part.op))
    sides = [(part.left, part.right), (part.right, part.left)]
    return any(isinstance(a, ast.Constant) and Fraction(str(a.value)) == number and value_of(b, values) == neutral for a, b in sides)
