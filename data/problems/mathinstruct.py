"""MathInstruct (Yue et al. 2023, arXiv 2309.05653): instructions with chain-of-thought or program-of-thought solutions."""

from __future__ import annotations

import re

from mathquarry.data.problems.answers import extract_answer
from mathquarry.data.problems.dataset import Dataset
from mathquarry.data.problems.problem import Problem
from mathquarry.data.problems.record import Record

_ASKS_FOR_PROGRAM = re.compile(
    r"\s*Please write a (?:Python )?program[^.\n]*\.|\s*Let's (?:write a|program in) [^.\n]*\.?|\s*Let's program[^.\n]*\.?", re.IGNORECASE
)
_ANSWER = re.compile(r"(?:The answer is|####)\s*:?\s*(.+?)\.?\s*$", re.IGNORECASE)


def _problem(record: Record) -> Problem:
    """Fields `instruction`, `output` and `source`. The answer of a program is its output, and is empty here until the program has run."""
    output = record.text("output").strip()
    question = record.text("instruction").strip()
    if _is_program(output):
        return Problem(record.id, _ASKS_FOR_PROGRAM.sub("", question), "", f"```python\n{output}\n```", "en", "mathinstruct")
    found = _ANSWER.search(output.splitlines()[-1])
    return Problem(record.id, question, found[1] if found else extract_answer(output) or "", output, "en", "mathinstruct")


def _is_program(output: str) -> bool:
    return re.search(r"^[ \t]*print\(|^import |^from \w+ import ", output, re.MULTILINE) is not None


MATHINSTRUCT = Dataset("mathinstruct", "en", _problem, "hf://TIGER-Lab/MathInstruct:default:train")
