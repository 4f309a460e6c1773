"""SAT mathematics of May 2023 (Azerbayev et al. 2023, arXiv 2310.10631): 32 questions with four options, for scores only."""

from __future__ import annotations

from mathquarry.data.problems.dataset import Dataset, choice_letters, options_text, with_options
from mathquarry.data.problems.problem import Problem
from mathquarry.data.problems.record import Record


def _problem(record: Record) -> Problem:
    """Fields `question`, `options` (one string, `A) ... B) ...`) and `Answer`."""
    options = options_text(record, record.fields.get("options"))
    question = with_options(record.text("question"), options)
    return Problem(record.id, question, choice_letters(record, record.fields.get("Answer"), len(options)), "", "en", "sat")


SAT = Dataset("sat", "en", _problem, hub_test="hf://mcaleste/sat_multiple_choice_math_may_23:default:train")
