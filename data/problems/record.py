"""One record of a problem set, and the reasons why a record cannot be used."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from mathquarry.data.errors import MathQuarryError

DIGITS = 4300
"""Maximum digits of a whole number, which is Python's own limit."""
DEPTH = 100
"""Maximum nesting of lists and objects in a record."""


@dataclass(frozen=True)
class Record:
    """One record of a problem set, with its location."""

    fields: dict[str, Any]
    origin: str
    """Name of the set, without folder and extension: `gsm8k-train`."""
    number: int
    """Its line, or its position in a table, a JSON list or a hub data set, from 1."""
    place: str
    """File and line, for messages."""
    fault: str = ""
    """Why the record cannot be used: it is nested too deeply, or contains half a surrogate pair or a number that is too long."""

    @property
    def id(self) -> str:
        """Set and number: `gsm8k-train-17`."""
        return f"{self.origin}-{self.number}"

    def text(self, field: str) -> str:
        """Return a field that must be a nonblank string. Raises `MathQuarryError` with file, line and field otherwise."""
        value = self.fields.get(field)
        if not isinstance(value, str) or not value.strip():
            found = f"it is {value!r}" if field in self.fields else f"the record has {', '.join(sorted(self.fields)) or 'nothing'}"
            raise MathQuarryError(f"{self.place}: no text in field `{field}`: {found}.")
        return value

    def value(self, field: str) -> str:
        """Return a field that must be a number or a nonblank string, as text. Raises `MathQuarryError` like `text`."""
        found = self.fields.get(field)
        if isinstance(found, int) and not isinstance(found, bool):
            return str(found)
        if isinstance(found, float):
            return str(int(found)) if found.is_integer() else str(found)
        return self.text(field).strip()

    def with_fields(self, **fields: Any) -> Record:
        """Return the record with more fields."""
        return replace(self, fields={**self.fields, **fields})


class EndlessNumber(str):
    """The digits of a whole number that is too long for Python."""


def whole_number(digits: str) -> int | EndlessNumber:
    """Convert digits to a number, unless they are too long."""
    return int(digits) if len(digits) <= DIGITS else EndlessNumber(digits)


def fault_of(value: Any, depth: int = 0) -> str:
    """Return why a value from a file cannot be used, or an empty string."""
    if isinstance(value, EndlessNumber):
        return f"a number has {len(value):,} digits; at most {DIGITS:,} are read"
    if isinstance(value, str):
        # Only surrogates cannot be encoded.
        return "" if value.isascii() or value.encode("utf-8", "replace").decode() == value else "it contains half a surrogate pair"
    if not isinstance(value, (list, dict)):
        return ""
    if depth == DEPTH:
        return "it is nested too deeply"
    parts = chain(value, value.values()) if isinstance(value, dict) else value
    return next(filter(None, (fault_of(part, depth + 1) for part in parts)), "")
