"""Amounts in two units, such as `3 hours 20 minutes`, `5 ft 3 in`, 2元5角 and `37^\\circ 30'`, as one amount in the larger unit."""

from __future__ import annotations

import re
from fractions import Fraction

from mathquarry.data.grade.reading.words import unit_name

MOST = 80
"""Characters in the longest amount; longer text is prose."""
_INTO = {
    ("hour", "minute"): 60,
    ("minute", "second"): 60,
    ("day", "hour"): 24,
    ("week", "day"): 7,
    ("year", "month"): 12,
    ("foot", "inch"): 12,
    ("yard", "foot"): 3,
    ("pound", "ounce"): 16,
    ("yuan", "jiao"): 10,
    ("dollar", "cent"): 100,
    ("meter", "centimeter"): 100,
    ("kilometer", "meter"): 1000,
    ("kilogram", "gram"): 1000,
    ("ton", "kilogram"): 1000,
}
_FRAME = re.compile(r"\\(?:text|textrm|mathrm|mbox|rm)(?![a-zA-Z])|[{}~]|\\[,;: ]")
_TWO = re.compile(
    r"(\d{1,9})([a-z. ]{1,12}|[\u4e00-\u9fff]{1,3})(?:,|and |又)? ?(\d{1,9}(?:\.\d{1,9})?)([a-z. ]{1,12}|[\u4e00-\u9fff]{1,3})"
)
_ANGLE = re.compile(
    r"(\d{1,9}) ?\^? ?\\circ ?(\d{1,2}(?:\.\d{1,9})?) ?(?:'|\^ ?\\prime|′)(?: ?(\d{1,2}(?:\.\d{1,9})?) ?(?:''|\"|″|\^ ?\\prime\\prime))?"
)


def in_two_units(text: str) -> tuple[Fraction, str] | None:
    """The value and the unit of an amount in two units that belong together; None for everything else."""
    if not 3 < len(text) <= MOST or not text[0].isdigit():
        return None
    text = " ".join(_FRAME.sub(" ", text).replace("°", r"^\circ").split())
    if match := _ANGLE.fullmatch(text.replace("\\circ ", "\\circ").replace("' '", "''")):
        degrees, minutes, seconds = (Fraction(part or 0) for part in match.groups())
        return degrees + minutes / 60 + seconds / 3600, "degree"
    match = _TWO.fullmatch(text.lower())
    if match is None:
        return None
    large, small = (_name(match[place]) for place in (2, 4))
    into = _INTO.get((large, small))
    return None if into is None else (Fraction(match[1]) + Fraction(match[3]) / into, large)


def _name(words: str) -> str:
    words = words.strip().removesuffix(" and").strip()
    return {"分": "minute"}.get(words, unit_name(words))
