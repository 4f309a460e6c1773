"""GSM8K (Cobbe et al. 2021, arXiv 2110.14168): grade-school word problems whose solutions have calculator marks."""

from __future__ import annotations

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems.dataset import Dataset
from mathquarry.data.problems.problem import Problem
from mathquarry.data.problems.record import Record

SOURCE = "gsm8k"
ANSWER_MARK = "####"


def _problem(record: Record) -> Problem:
    """Fields `question` and `answer`: the answer is the text after the last `####`, the solution the text before it, with its marks."""
    question, worked = record.text("question"), record.text("answer")
    solution, mark, answer = worked.rpartition(ANSWER_MARK)
    answer = answer.strip().replace(",", "")
    if not mark or not answer:
        raise MathQuarryError(f"{record.place}: no answer after `{ANSWER_MARK}` in field `answer`.")
    return Problem(record.id, question.strip(), answer, solution.strip(), "en", SOURCE)


GSM8K = Dataset(SOURCE, "en", _problem, "hf://openai/gsm8k:main:train", "hf://openai/gsm8k:main:test")
load = GSM8K.load
