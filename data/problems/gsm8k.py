"""GSM8K (Cobbe et al. 2021, arXiv 2110.14168): grade-school word problems whose solutions carry calculator marks."""

from __future__ import annotations

from data.errors import MathQuarryError
from data.problems.dataset import Dataset
from data.problems.problem import Problem
from data.problems.records import Record

SOURCE = "gsm8k"
ANSWER_MARK = "####"


def _problem(record: Record) -> Problem:
    """Fields `question` and `answer`: the answer is what follows the last `####`, the solution what precedes it, marks included."""
    question, worked = record.text("question"), record.text("answer")
    solution, mark, answer = worked.rpartition(ANSWER_MARK)
    answer = answer.strip().replace(",", "")
    if not mark or not answer:
        raise MathQuarryError(f"{record.place}: no answer after `{ANSWER_MARK}` in field `answer`.")
    return Problem(record.id, question.strip(), answer, solution.strip(), "en", SOURCE)


GSM8K = Dataset(SOURCE, "en", _problem, "hf://openai/gsm8k:main:train", "hf://openai/gsm8k:main:test")
load = GSM8K.load
