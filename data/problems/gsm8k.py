"""GSM8K (Cobbe et al. 2021, arXiv 2110.14168): grade-school word problems whose solutions carry calculator marks."""

from __future__ import annotations

from data.errors import MathQuarryError
from data.problems.problem import Problem
from data.problems.records import Record, read_records

SOURCE = "gsm8k"
ANSWER_MARK = "####"


def load(path: str) -> list[Problem]:
    """Problems of a JSONL file (may be gzipped) or `hf://openai/gsm8k:main:train`; fields `question` and `answer`.

    The answer is what follows the last `####`, without thousands commas; the solution is what precedes it, marks included.
    Raises `MathQuarryError` naming file and line for a bad record, and for an empty file.
    """
    return [_problem(record) for record in read_records(path)]


def _problem(record: Record) -> Problem:
    question, worked = record.text("question"), record.text("answer")
    solution, mark, answer = worked.rpartition(ANSWER_MARK)
    answer = answer.strip().replace(",", "")
    if not mark or not answer:
        raise MathQuarryError(f"{record.place}: no answer after `{ANSWER_MARK}` in field `answer`.")
    return Problem(record.id, question.strip(), answer, solution.strip(), "en", SOURCE)
