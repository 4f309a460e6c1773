"""Reads a user's own solutions as training examples, from the columns that the recipe names."""

from __future__ import annotations

import re

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems.answers import extract_answer
from mathquarry.data.problems.benchmark import language_of
from mathquarry.data.problems.columns import HASH, column_answer, column_text
from mathquarry.data.problems.own import without_hash
from mathquarry.data.problems.record import Record
from mathquarry.data.problems.records import read_records
from mathquarry.data.programs.calculator import strip_marks
from mathquarry.data.solutions.config import SolutionFiles
from mathquarry.data.solutions.example import Example, Segment
from mathquarry.data.solutions.formats import first_program, program_of_thought

_OUTPUT = re.compile(r"(^```output[^\S\n]*\n.*?^```[^\S\n]*$\n?)", re.DOTALL | re.MULTILINE)


def own_examples(files: SolutionFiles) -> list[Example]:
    """One example per row, in the file's order.

    Raises `MathQuarryError` naming file, row and column for a row that does not match the recipe, and for a row that repeats an earlier
    question with the same solution.
    """
    seen: dict[tuple[str, str], str] = {}
    examples = []
    for record in read_records(files.path):
        example = read_example(files, record)
        place = seen.setdefault((example.question, example.text), record.place)
        if place != record.place:
            raise MathQuarryError(f"{record.place} gives the question and the solution of {place} again. Remove one of the two rows.")
        examples.append(example)
    return examples


def read_example(files: SolutionFiles, record: Record) -> Example:
    """A row as an example. Raises `MathQuarryError` naming file, row and column for one that does not match the recipe."""
    question = column_text(record, files.question).strip()
    solution = column_text(record, files.solution).strip()
    answer = _answer(files, record)
    language = files.language or language_of(question)
    return Example(record.id, question, files.format, language, _segments(files, record, solution, answer), answer)


def _answer(files: SolutionFiles, record: Record) -> str:
    if files.answer is not None:
        return column_answer(record, files.answer, "text", "answer_from")
    if files.format == "pot":
        return ""  # what the program prints
    return column_answer(record, files.solution, files.answer_from, "answer_from of curate.files")


def _segments(files: SolutionFiles, record: Record, solution: str, answer: str) -> list[Segment]:
    if files.format == "pot":
        block = first_program(f"{solution}\n")
        if block is None and "```" in solution:
            raise MathQuarryError(f"{record.place}: column `{files.solution}` has a fence but no complete ```python block. Fix the row.")
        return program_of_thought(block.program.rstrip("\n") if block else solution)
    text = strip_marks(without_hash(solution)) if HASH in solution else solution
    if extract_answer(text) is None:
        text = f"{text}\n\\boxed{{{answer}}}"
    if files.format == "cot":
        return [Segment(text)]
    if first_program(text) is None:
        raise MathQuarryError(f"{record.place}: column `{files.solution}` has no ```python block, which format `tool` needs. Fix the row.")
    # Program output is read but not trained.
    return [Segment(part, trained=not part.startswith("```output")) for part in _OUTPUT.split(text) if part]
