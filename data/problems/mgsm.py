"""MGSM in Chinese (Shi et al. 2022, arXiv 2210.03057): 250 questions of GSM8K's test split, for scores only."""

from __future__ import annotations

from mathquarry.data.problems.dataset import Dataset
from mathquarry.data.problems.problem import Problem
from mathquarry.data.problems.record import Record


def _problem(record: Record) -> Problem:
    """Fields `question` and `answer_number` (the hub), or chat `messages` and `answer` (the paper's evaluation files)."""
    messages = record.fields.get("messages")
    if isinstance(messages, list):
        question = next((str(m.get("content", "")) for m in messages if isinstance(m, dict) and m.get("role") == "user"), "")
        record = record.with_fields(question=question)
    answer = record.value("answer_number" if record.fields.get("answer_number") is not None else "answer")
    return Problem(record.id, record.text("question").strip(), answer.replace(",", ""), "", "zh", "mgsm-zh")


# A copy without a loading script: `datasets` no longer runs the one of juletxara/mgsm.
MGSM_ZH = Dataset("mgsm-zh", "zh", _problem, hub_test="hf://jbross-ibm-research/mgsm:zh:test")
