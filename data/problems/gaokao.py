"""Gaokao-MathQA and Gaokao-MathCloze (AGIEval, Zhong et al. 2023, arXiv 2304.06364): Chinese college entrance exams, for scores only."""

from __future__ import annotations

from mathquarry.data.problems.dataset import Dataset, choice_letters, options_text, with_options
from mathquarry.data.problems.problem import Problem
from mathquarry.data.problems.record import Record


def _choice(record: Record) -> Problem:
    """Fields `question`, `options`, `label` (AGIEval's files), or `query`, `choices`, `gold` (the hub, options in the query already)."""
    on_hub = "query" in record.fields
    options = options_text(record, record.fields.get("choices" if on_hub else "options"))
    question = record.text("query") if on_hub else with_options(record.text("question").rstrip("\\\n "), options)
    label = record.fields.get("gold" if on_hub else "label")
    return Problem(record.id, question.strip(), choice_letters(record, label, len(options)), "", "zh", "gaokao-mathqa")


def _cloze(record: Record) -> Problem:
    """Fields `question` (`query` on the hub) and `answer`; several blanks are separated by semicolons."""
    question = record.text("query" if "query" in record.fields else "question")
    return Problem(record.id, question.strip(), record.text("answer").strip(), "", "zh", "gaokao-mathcloze")


GAOKAO_MATHQA = Dataset("gaokao-mathqa", "zh", _choice, hub_test="hf://hails/agieval-gaokao-mathqa:default:test")
GAOKAO_MATHCLOZE = Dataset("gaokao-mathcloze", "zh", _cloze, hub_test="hf://hails/agieval-gaokao-mathcloze:default:test")
