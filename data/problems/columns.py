"""Reads columns of the user's own files: values by name or path, and the answer in them. Each error has the file, row and column."""

from __future__ import annotations

import difflib
import math
from typing import Any

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems.answers import extract_answer
from mathquarry.data.problems.config import AnswerFrom
from mathquarry.data.problems.record import Record

HASH = "####"
_SHOWN = 80
"""Maximum characters of a value in an error message."""


def column_text(record: Record, column: str) -> str:
    """Return the text of a column. Raises `MathQuarryError` if there is no such column, or if its text is missing or blank."""
    value = _value(record, column)
    if not isinstance(value, str):
        needed = f"{record.place}: column `{column}` is {_shown(value)}, but it must be text"
        raise MathQuarryError(f"{needed}. {_advice(value, column)}")
    if not value.strip():
        raise MathQuarryError(f"{record.place}: column `{column}` is empty. Fill it in, or remove the row.")
    return value


def column_answer(record: Record, column: str, answer_from: AnswerFrom, field: str) -> str:
    """Return the final answer in a column; it can be a number. `field` is the recipe's name for `answer_from`, for error messages.

    Raises `MathQuarryError` if there is no answer, or if it is clearly not where `answer_from` says.
    """
    value = _value(record, column)
    if answer_from == "text" and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise MathQuarryError(f"{record.place}: column `{column}` is {value}, which is not an answer. Fill it in, or remove the row.")
        return str(int(value)) if float(value).is_integer() else str(value)
    text = column_text(record, column).strip()
    found = {"boxed": extract_answer(text), "hash": text.rpartition(HASH)[2].strip().replace(",", "") if HASH in text else None}
    if answer_from == "text":
        fitting = [name for name, answer in found.items() if answer]
        if fitting:
            raise MathQuarryError(
                f'{record.place}: column `{column}` has a solution, not an answer: {_shown(text)}. Set {field} to "{fitting[0]}".'
            )
        return text
    if answer := found[answer_from]:
        return answer
    mark = r"\boxed{}" if answer_from == "boxed" else f"`{HASH}`"
    other = next((name for name, answer in found.items() if answer), "text")
    raise MathQuarryError(
        f'{record.place}: no answer in {mark} in column `{column}`: {_shown(text)}. Correct it, or set {field} to "{other}" for all rows.'
    )


def _value(record: Record, column: str) -> Any:
    """Return a value: the column with this complete name, else the value at this path through objects and lists."""
    if record.fault:
        raise MathQuarryError(f"{record.place} cannot be used: {record.fault}.")
    if column in record.fields:
        return record.fields[column]
    value: Any = record.fields
    for part in column.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and len(part) < 10 and int(part) < len(value):
            value = value[int(part)]
        else:
            there = ", ".join(sorted(map(str, record.fields))) or "nothing"
            close = difflib.get_close_matches(column, [str(name) for name in record.fields], n=1)
            guess = f" Did you mean {close[0]}?" if close else ""
            raise MathQuarryError(f"{record.place}: there is no column `{column}`; the row has {there}.{guess}")
    return value


def _advice(value: Any, column: str) -> str:
    if isinstance(value, list | dict) and value:
        first = "0" if isinstance(value, list) else next(iter(value))
        return f"Use a value inside it, for example `{column}.{first}`."
    return "Fill it in, or remove the row." if value is None else "Write it as text."


def _shown(value: Any) -> str:
    text = " ".join(str(value).split()) if isinstance(value, str) else repr(value)
    text = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
    return repr(text) if isinstance(value, str) else "nothing" if value is None else f"{text} ({type(value).__name__})"
