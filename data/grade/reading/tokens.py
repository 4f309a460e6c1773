"""The parts of an answer: tokens and exact numbers, and the error for an unreadable answer."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

MAX_EXPONENT = 400
"""Largest exponent in scientific notation that is read."""

Kind = Literal["number", "letter", "name", "text", "command", "symbol", "separator", "end"]


@dataclass(frozen=True, slots=True)
class Number:
    """An exact value. `step` is the weight of the last digit of a written decimal; None if nothing was rounded."""

    value: Fraction
    step: Fraction | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """`text` is the letter, name, command without backslash, symbol, or the words of a text. `spaced`: there is space before it."""

    kind: Kind
    text: str
    number: Number | None = None
    spaced: bool = False


class Unreadable(ValueError):
    """An answer in a notation that this parser does not know."""
