"""Reading a final answer: its plain form, its number if it is one, its unit. No process is needed for any of this.

Policies, stated once:

1. **Units** (percent and currency signs are units) are compared only when both answers have one: `50\\%` is `50` but not `0.5`;
   `10 cm` is `10` but not `10 m`. A bare letter straight after a number is a variable: `5t` is not `5`.
2. **Commas** group thousands in the form `1,234` only; `1,2` is a list.
3. **Numbers** are compared exactly. The one exception: a decimal of at least six significant digits equals the fraction that rounds to it.
4. **Letters** are the same in capitals and small, in names and in variables (math-verify's rule).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_CHARACTERS = 1000
"""Longer answers are not parsed at all; the longest gold answer of GSM8K and MATH has 159 characters."""

_SIGN = r"[+-]?"
_INTEGER = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_DECIMAL = re.compile(rf"({_SIGN})({_INTEGER})?(?:\.(\d*))?(?:[eE]([+-]?\d{{1,2}}))?", re.ASCII)
_FRACTION = re.compile(
    rf"({_SIGN})(?:\\frac\{{({_SIGN}{_INTEGER})\}}\{{({_INTEGER})\}}|\\frac(\d)(\d)|({_INTEGER})/({_INTEGER}))", re.ASCII
)
_TEXT_UNIT = re.compile(r"(.*[\d})])\s*\\(?:text|textrm|textbf|mbox|mathrm)\{([^{}\\]*)\}(\^\{?[23]\}?)?", re.DOTALL)
_WORD_UNIT = re.compile(r"(.*\d)\s+([A-Za-z]+(?: [A-Za-z]+){0,2})", re.DOTALL)
_SIGN_UNIT = re.compile(r"(.*?)\s*(%|\^\{?\\circ\}?|°)", re.DOTALL)
_PURE_TEXT = re.compile(r"\\(?:text|textrm|textbf|textit|mbox|mathrm)\{([^{}\\]*)\}")
_SHORT_UNITS = frozenset(
    ["mm", "cm", "km", "kg", "ft", "lb", "lbs", "oz", "mi", "hr", "hrs", "min", "sec", "mph", "in", "am", "pm", "day", "cup", "men"]
)
_NOT_UNITS = frozenset(["and", "or", "not", "to", "than", "is", "are", "if", "none"])
_REWRITES = [
    (re.compile(r"\\left(?![a-zA-Z])|\\right(?![a-zA-Z])|\\!|\\displaystyle(?![a-zA-Z])"), ""),
    (re.compile(r"\\[,;:](?=\s*\d{3}(?!\d))"), ""),
    (re.compile(r"\\[,;: ]|~|\\q?quad(?![a-zA-Z])"), " "),
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"−"), "-"),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\s+"), " "),
]


@dataclass(frozen=True)
class Number:
    """An exact value. `step` is the weight of the last digit of a written decimal; None where nothing was rounded away."""

    value: Fraction
    step: Fraction | None


@dataclass(frozen=True)
class Answer:
    """An answer without its unit. `body` is LaTeX in plain form, `number` its value when it is nothing but a number."""

    body: str
    unit: str
    number: Number | None


def read_answer(text: str) -> Answer:
    """Split a final answer into body and unit. `text` is what stands inside `\\boxed{}`, at most `MAX_CHARACTERS` long."""
    body, unit = _split_unit(_plain(text))
    return Answer(body, unit, _number(body))


def decide(gold: Answer, given: Answer) -> tuple[bool, str] | None:
    """(equal?, reason) when no algebra is needed: different units, the same text, or two plain numbers. None otherwise."""
    if gold.unit and given.unit and gold.unit != given.unit:
        return False, "different units"
    if _squeezed(gold.body) == _squeezed(given.body):
        return (True, "same text") if gold.body else (False, "empty")
    if gold.number and given.number:
        return (True, "equal numbers") if _same_number(gold.number, given.number) else (False, "different numbers")
    if not given.body:
        return False, "empty"
    return None


def _plain(text: str) -> str:
    text = text.strip()
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = text.strip().removesuffix(".").strip()
    for opening, closing in (("$", "$"), (r"\(", r"\)")):
        if len(text) > len(opening + closing) and text.startswith(opening) and text.endswith(closing):
            text = text[len(opening) : -len(closing)].strip()
    if match := _PURE_TEXT.fullmatch(text):
        text = match[1].strip()
    return text


def _split_unit(text: str) -> tuple[str, str]:
    for sign in ("\\$", "$"):
        if text.startswith(sign) and len(text) > len(sign):
            return text.removeprefix(sign).strip(), "dollar"
        if text.startswith("-" + sign):
            return "-" + text.removeprefix("-" + sign).strip(), "dollar"
    if match := _SIGN_UNIT.fullmatch(text):
        return match[1], "%" if match[2] == "%" else "degree"
    if (match := _TEXT_UNIT.fullmatch(text)) and match[2].strip():
        return match[1].strip(), _unit_name(match[2] + (match[3] or "").strip("^{}"))
    if match := _WORD_UNIT.fullmatch(text):
        words = match[2].lower().split()
        if not _NOT_UNITS.intersection(words) and (len(words[0]) > 3 or words[0] in _SHORT_UNITS):
            return match[1], _unit_name(match[2])
    return text, ""


def _unit_name(text: str) -> str:
    """One name for `dollars`, `dollar.` and ` Dollars `."""
    name = " ".join(text.lower().split()).strip(" .")
    if name in ("percent", "percentage"):
        return "%"
    if name == "inches":
        return "inch"
    return name.removesuffix("s") if len(name) > 3 else name


def _number(body: str) -> Number | None:
    compact = body.replace(" ", "") if body.startswith(("+", "-")) or "/" in body or "frac" in body else body
    if match := _FRACTION.fullmatch(compact):
        sign, *parts = match.groups()
        top, bottom = (part.replace(",", "") for part in parts if part is not None)
        if int(bottom) == 0:
            return None
        return Number(Fraction(int(top), int(bottom)) * (-1 if sign == "-" else 1), None)
    match = _DECIMAL.fullmatch(compact)
    if match is None or not (match[2] or match[3]):
        return None
    sign, whole, decimals, exponent = match.groups()
    digits = (whole or "").replace(",", "") + (decimals or "")
    step = Fraction(10) ** (int(exponent or 0) - len(decimals or ""))
    value = int(digits) * step * (-1 if sign == "-" else 1)
    return Number(value, step if value.denominator > 1 else None)


def _same_number(a: Number, b: Number) -> bool:
    if a.value == b.value:
        return True
    if (a.step is None) == (b.step is None):  # two decimals, or two exact values
        return False
    decimal, exact = (a, b) if b.step is None else (b, a)
    assert decimal.step is not None
    significant = abs(decimal.value) >= decimal.step * 10**5
    return significant and exact.value.denominator > 1 and abs(decimal.value - exact.value) * 2 <= decimal.step


def _squeezed(body: str) -> str:
    squeezed = body.replace(" ", "")
    return squeezed.lower() if squeezed.isalpha() else squeezed
