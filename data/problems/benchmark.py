"""Benchmark files in whatever form they come: only their texts matter, since they serve to clean the corpus of them."""

from __future__ import annotations

from typing import Any

from data.config import Language
from data.errors import MathQuarryError
from data.problems.problem import Problem
from data.problems.records import Record, read_records

QUESTION_FIELDS = ("question", "problem", "original_text", "informal_statement", "prompt", "input")
ANSWER_FIELDS = ("answer", "Answer", "golden", "label", "ans", "target", "canonical_solution")
SOLUTION_FIELDS = ("solution", "informal_proof", "equation")


def load(path: str) -> list[Problem]:
    """Problems of any JSONL file (may be gzipped) or `hf://owner/name:config:split` that has a question in a field of a usual name.

    A chat record (`messages`) asks with its user's messages. The answer may be empty where the file gives none, and so is the question of a
    record that cannot be used (`Record.fault`). Raises
    `MathQuarryError` naming file and line for a record without question, and for an empty file.
    """
    return [_problem(record) for record in read_records(path)]


def _problem(record: Record) -> Problem:
    if record.fault:
        return Problem(record.id, "", "", source=record.origin)
    question = _first(record.fields, QUESTION_FIELDS) or _asked(record.fields.get("messages"))
    if not question:
        raise MathQuarryError(f"{record.place}: no question in any of the fields {', '.join(QUESTION_FIELDS)}, messages.")
    answer, solution = _first(record.fields, ANSWER_FIELDS), _first(record.fields, SOLUTION_FIELDS)
    return Problem(record.id, question, answer, solution, language_of(question), record.origin)


def language_of(text: str) -> Language:
    """`zh` when the text has a Chinese character, else `en`."""
    return "zh" if any("\u4e00" <= character <= "\u9fff" for character in text) else "en"


def _first(fields: dict[str, Any], names: tuple[str, ...]) -> str:
    for name in names:
        text = _text(fields.get(name))
        if text:
            return text
    return ""


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(_text(part) for part in value)
    return "" if value is None else str(value).strip()


def _asked(messages: Any) -> str:
    if not isinstance(messages, list):
        return ""
    asked = [message for message in messages if isinstance(message, dict) and message.get("role") == "user"]
    return " ".join(_text(message.get("content")) for message in asked).strip()
