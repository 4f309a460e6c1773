"""Loads benchmark files in any format. Only their texts are needed, to remove them from the corpus."""

from __future__ import annotations

from typing import Any

from mathquarry.data.config import Language
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems.problem import Problem
from mathquarry.data.problems.record import Record
from mathquarry.data.problems.records import read_records

QUESTION_FIELDS = ("question", "problem", "original_text", "informal_statement", "prompt", "input")
ANSWER_FIELDS = ("answer", "Answer", "golden", "label", "ans", "target", "canonical_solution")
SOLUTION_FIELDS = ("solution", "informal_proof", "equation")


def load(path: str, encoding: str | None = None) -> list[Problem]:
    """Load the problems of any file for `read_records`, or `hf://owner/name:config:split`, that has a question in a common field.

    The question of a chat record (`messages`) is its user's messages. The answer can be empty. A record that cannot be used
    (`Record.fault`) has an empty question. Raises `MathQuarryError` with file and line for a record without a question, and for an empty
    file.
    """
    return [_problem(record) for record in read_records(path, encoding)]


def _problem(record: Record) -> Problem:
    if record.fault:
        return Problem(record.id, "", "", source=record.origin)
    question = _first(record.fields, QUESTION_FIELDS) or _asked(record.fields.get("messages"))
    if not question:
        raise MathQuarryError(f"{record.place}: no question in any of the fields {', '.join(QUESTION_FIELDS)}, messages.")
    answer, solution = _first(record.fields, ANSWER_FIELDS), _first(record.fields, SOLUTION_FIELDS)
    return Problem(record.id, question, answer, solution, language_of(question), record.origin)


def language_of(text: str) -> Language:
    """Return `zh` if the text has a Chinese character, else `en`."""
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
