"""The possible readings of an answer, since a comma can mean more than one thing."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

from mathquarry.data.grade.reading.lexer import tokens
from mathquarry.data.grade.reading.notation import tidy
from mathquarry.data.grade.reading.parser import parse
from mathquarry.data.grade.reading.quantities import in_two_units
from mathquarry.data.grade.reading.spoken import spoken
from mathquarry.data.grade.reading.tokens import Number, Unreadable
from mathquarry.data.grade.reading.tree import NeedsAlgebra, Tree, number

_BASED = re.compile(r"[({]?(?:\\(?:text|mathrm|mathbf)\s?\{\s?)?(\d*[A-F][\dA-F]*)\s?\}?\s?_\s?\{?\s?(\d\d?)\s?\}?[)}]?")

_LETTER = r"(?:[mgshLlNJWV]|k[mg]|min)(?:[²³]|\^\s?\{?[23]\}?)?"
_SPACED_UNIT = re.compile(rf"(?<=[\d}}])(?:\s|\\[,; ]|~)+({_LETTER}(?:/{_LETTER})?|\\frac\{{{_LETTER}\}}\{{{_LETTER}\}})$")
"""A letter after a number and a space, at the end of an answer: a variable or a unit."""
_DIGITS = re.compile(r"(-?)(\d{1,15})(?:\.(\d{1,15}))?", re.ASCII)
_PARTS = re.compile(r"\d{1,9} and \d{1,9}/\d{1,9}")
_WRAPPER = re.compile(r"\\(?:text|textbf|textrm|mbox|mathrm)\s?\{([^{}]*)\}")


@dataclass(frozen=True)
class Reading:
    """A reading of an answer: its tokens without spacing, and its tree, or why there is none."""

    key: tuple[str, ...]
    tree: Tree | None
    fault: str = ""
    needs_algebra: bool = False
    is_last: bool = False
    """Whether it is the last of several readings."""

    @property
    def is_words(self) -> bool:
        """Whether it is read as words."""
        return self.tree is not None and self.tree.op == "text"


@lru_cache(maxsize=50_000)
def readings(text: str) -> tuple[Reading, ...]:
    """The possible readings of an answer: the comma in 1,234 groups thousands or separates; the one in 3,5 is decimal; the m of
    `5 m` is a letter or meters; `2 and 1/2` is two numbers or one.
    """
    if digits := _DIGITS.fullmatch(text):
        return (_in_digits(*digits.groups()),)
    text = tidy(text)
    found = [_read(text, True)]
    if re.search(r"\d,\d{3}(?!\d)", text):
        found.append(_read(text, False))
    if re.fullmatch(r"[+-]?\d+,\d+", text) and not re.fullmatch(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+", text):
        found.append(_read(text.replace(",", "."), False))
    if unit := _SPACED_UNIT.search(text):
        name = re.sub(r"\\frac\{(.*)\}\{(.*)\}", r"\1/\2", unit[1])
        found.append(_read(rf"{text[: unit.start()]}\text{{{name}}}", True))
    elif _PARTS.fullmatch(text):
        found.append(_read(text.replace(" and ", " "), True))
    if len(found) > 1:
        found[-1] = replace(found[-1], is_last=True)
    return tuple(found)


def _in_digits(sign: str, whole: str, decimals: str | None) -> Reading:
    """The reading of a plain integer or decimal, which no notation below applies to."""
    scale = 10 ** len(decimals or "")
    value = Fraction(int(whole + (decimals or "")), scale)
    tree = Tree("number", number=Number(value, Fraction(1, scale) if value.denominator > 1 else None))
    text = whole if decimals is None else f"{whole}.{decimals}"
    return Reading((sign, text, ""), Tree("-", (tree,))) if sign else Reading((text, ""), tree)


def _read(text: str, grouped: bool) -> Reading:
    key: tuple[str, ...] = ()
    try:
        if (value := spoken(_WRAPPER.sub(r"\1", text))) is not None:
            return Reading((text.lower(),), number(value))
        if (amount := in_two_units(text)) is not None:
            return Reading((text.lower(),), Tree("unit", (number(amount[0]),), amount[1]))
        found = tokens(text, grouped)
        key = tuple(token.text.lower() if token.kind == "text" else token.text for token in found)
        if based := _BASED.fullmatch(text):
            return Reading(key, Tree("unit", (Tree("symbol", text=based[1].upper()),), f"base {based[2]}"))
        return Reading(key, parse(found))
    except (Unreadable, RecursionError) as error:
        return Reading(key, None, str(error), isinstance(error, NeedsAlgebra))
