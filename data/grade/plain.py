"""Reading a final answer: its plain form, its number if it is one, its unit. No process is needed for any of this.

The policies are stated in docs/grading.md: units and percent, commas, decimals, letters. Their structure (lists, tuples, blanks, choices)
is read in `data/grade/structure.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

MAX_CHARACTERS = 1000
"""Longer answers are not parsed at all; the longest gold answer of GSM8K and MATH has 159 characters."""

_SIGN = r"[+-]?"
_INTEGER = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_DECIMAL = re.compile(rf"({_SIGN})({_INTEGER})?(?:\.(\d*))?(?:[eE]([+-]?\d{{1,2}}))?", re.ASCII)
_FRACTION = re.compile(
    rf"({_SIGN})(?:\\frac\{{({_SIGN}{_INTEGER})\}}\{{({_INTEGER})\}}|\\frac(\d)(\d)|({_INTEGER})\.?/({_INTEGER}))", re.ASCII
)
_MIXED = re.compile(r"([+-]?)(\d+)(?: (\d+)/(\d+)| ?\\frac\{(\d+)\}\{(\d+)\}| ?\\frac(\d)(\d))", re.ASCII)
_SCIENTIFIC = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*(?:\\times|\\cdot)\s*10\^(?:\{([+-]?\d{1,2})\}|(\d))", re.ASCII)
_TEXT_UNIT = re.compile(r"(.*[\d})])\s*\\(?:text|textrm|textbf|mbox|mathrm)\{([^{}\\]*)\}(\^\{?[23]\}?)?", re.DOTALL)
_WORD_UNIT = re.compile(r"(.*\d)\s+([A-Za-z]+(?: [A-Za-z]+){0,2})(\^\{?[23]\}?)?", re.DOTALL)
_CHINESE_UNIT = re.compile(r"(.*\d)\s*([\u4e00-\u9fff]{1,4})", re.DOTALL)
_BASE = re.compile(r"(-?[\dA-Z.]+)_(?:\{(\d{1,2})\}|(\d))", re.ASCII)
_SIGN_UNIT = re.compile(r"(.*?)\s*(%|\^\{?\\circ\}?|°)", re.DOTALL)
_PURE_TEXT = re.compile(r"\\(?:text|textrm|textbf|textit|mbox|mathrm)\{([^{}\\]*)\}")
_SHORT_UNITS = frozenset(
    ["mm", "cm", "km", "kg", "ft", "lb", "lbs", "oz", "mi", "hr", "hrs", "min", "sec", "mph", "in", "am", "pm", "day", "cup", "men"]
)
_NOT_UNITS = frozenset(["and", "or", "not", "to", "than", "is", "are", "if", "none"])
_SAME_UNITS = {
    "percent": "%",
    "percentage": "%",
    "inches": "inch",
    "in": "inch",
    "ft": "foot",
    "feet": "foot",
    "hr": "hour",
    "hrs": "hour",
    "h": "hour",
    "min": "minute",
    "mins": "minute",
    "sec": "second",
    "s": "second",
    "m": "meter",
    "metre": "meter",
    "metres": "meter",
    "kilometer": "km",
    "kilometers": "km",
    "centimeter": "cm",
    "centimeters": "cm",
    "lb": "pound",
    "lbs": "pound",
    "oz": "ounce",
    "degrees": "degree",
    "千米": "km",
    "公里": "km",
    "米": "meter",
    "厘米": "cm",
    "千克": "kg",
    "公斤": "kg",
    "小时": "hour",
    "分钟": "minute",
}
FULL_WIDTH = str.maketrans({chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)} | {"。": ".", "\u3000": " "})
_REWRITES: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    (re.compile(r"\\left(?![a-zA-Z])|\\right(?![a-zA-Z])|\\!|\\displaystyle(?![a-zA-Z])"), ""),
    (re.compile(r"\\[,;:](?=\s*\d{3}(?!\d))"), ""),
    (re.compile(r"\\[,;: ]|~|\\q?quad(?![a-zA-Z])"), " "),
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"−|－"), "-"),
    (re.compile(r"(\d+)分之(\d+)"), r"\2/\1"),
    (re.compile(r"\s*(?:或者|或|和|与|、)\s*"), ","),
    (re.compile(r"∞"), r"\\infty"),
    (re.compile(r"π"), r"\\pi"),
    (re.compile(r"×"), r"\\times"),
    (re.compile(r"÷"), "/"),
    (re.compile(r"≤"), r"\\le"),
    (re.compile(r"≥"), r"\\ge"),
    (re.compile(r"∪"), r"\\cup"),
    (re.compile(r"\\textcircled\{([1-9])\}"), lambda circled: chr(ord("①") + int(circled[1]) - 1)),
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


def decide(gold: Answer, given: Answer, tolerance: float = 0.0) -> tuple[bool, str] | None:
    """(equal?, reason) when no algebra is needed: different units, the same text, or two plain numbers. None otherwise.

    `tolerance` is the relative error of a number that is still right.
    """
    if gold.unit and given.unit and gold.unit != given.unit:
        return False, "different units"
    if _squeezed(gold.body) == _squeezed(given.body):
        return (True, "same text") if gold.body else (False, "empty")
    if gold.number and given.number:
        if _same_number(gold.number, given.number):
            return True, "equal numbers"
        if _same_percent(gold, given):
            return True, "equal as percent"
        if tolerance and abs(gold.number.value - given.number.value) <= Fraction(tolerance) * abs(gold.number.value):
            return True, "equal within the tolerance"
        return False, "different numbers"
    if not given.body:
        return False, "empty"
    return None


def _same_percent(gold: Answer, given: Answer) -> bool:
    """One of them has a percent sign and no other unit is in play: 50 % is 0.5."""
    if {gold.unit, given.unit} != {"%", ""}:
        return False
    assert gold.number is not None
    assert given.number is not None
    percent, plain = (gold.number, given.number) if gold.unit else (given.number, gold.number)
    step = percent.step / 100 if percent.step else None
    return _same_number(Number(percent.value / 100, step), plain)


def _plain(text: str) -> str:
    text = text.translate(FULL_WIDTH).strip()
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
    if match := _BASE.fullmatch(text):
        return match[1], f"base {match[2] or match[3]}"
    if match := _SIGN_UNIT.fullmatch(text):
        return match[1], "%" if match[2] == "%" else "degree"
    if (match := _TEXT_UNIT.fullmatch(text)) and match[2].strip():
        return match[1].strip(), _unit_name(match[2] + (match[3] or "").strip("^{}"))
    if match := _WORD_UNIT.fullmatch(text):
        words = match[2].lower().split()
        if not _NOT_UNITS.intersection(words) and (len(words[0]) > 3 or words[0] in _SHORT_UNITS):
            return match[1], _unit_name(match[2] + (match[3] or "").strip("^{}"))
    if match := _CHINESE_UNIT.fullmatch(text):
        return match[1], _unit_name(match[2])
    return text, ""


def _unit_name(text: str) -> str:
    """One name for `dollars`, `dollar.` and ` Dollars `."""
    name = " ".join(text.lower().split()).strip(" .")
    if name in _SAME_UNITS:
        return _SAME_UNITS[name]
    return name.removesuffix("s") if len(name) > 3 else name


def _number(body: str) -> Number | None:
    if match := _MIXED.fullmatch(body):
        whole, over, under = (int(part) for part in match.groups()[1:] if part is not None)
        return Number((whole + Fraction(over, under)) * (-1 if match[1] == "-" else 1), None) if under else None
    if match := _SCIENTIFIC.fullmatch(body):
        body = f"{match[1]}e{match[2] or match[3]}"
    if re.search(r"\d \d", body):
        return None
    compact = body.replace(" ", "") if body.startswith(("+", "-")) or "/" in body or "frac" in body else body
    if match := _FRACTION.fullmatch(compact):
        sign, *parts = match.groups()
        over, under = (int(part.replace(",", "")) for part in parts if part is not None)
        return Number(Fraction(over, under) * (-1 if sign == "-" else 1), None) if under else None
    match = _DECIMAL.fullmatch(compact)
    if match is None or not (match[2] or match[3]):
        return None
    sign, integer, decimals, exponent = match.groups()
    digits = (integer or "").replace(",", "") + (decimals or "")
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
    squeezed = re.sub(r"(?<!\d) | (?!\d)", "", body)  # 3 1/2 is not 31/2
    return squeezed.lower() if squeezed.isalpha() else squeezed
