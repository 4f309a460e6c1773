"""MMLU-STEM (Hendrycks et al. 2021, arXiv 2009.03300): the 18 STEM subjects of MMLU, for scores only."""

from __future__ import annotations

from mathquarry.data.problems.dataset import Dataset, choice_letters, options_text, with_options
from mathquarry.data.problems.problem import Problem
from mathquarry.data.problems.record import Record


def _problem(record: Record) -> Problem:
    """Fields `question`, `options` or `choices`, and `answer` as a letter or a position."""
    options = options_text(record, record.fields.get("options", record.fields.get("choices")))
    letter = choice_letters(record, record.fields.get("answer"), len(options))
    return Problem(record.id, with_options(record.text("question"), options), letter, "", "en", "mmlu-stem")


MMLU_STEM = Dataset("mmlu-stem", "en", _problem, hub_test="hf://TIGER-Lab/MMLU-STEM:default:test")
