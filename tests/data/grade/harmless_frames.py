"""Harmless spellings that keep the content of an answer: frames, spaces, signs, sizes, fractions, powers."""

from __future__ import annotations

import re

from tests.data.grade import pieces
from tests.data.grade.rules import rule, template

_UNICODE = [
    (r"\\pi(?![a-z])", "π"), (r"\\theta(?![a-z])", "θ"), (r"\\infty(?![a-z])", "∞"), (r"\\le(?:q)?(?![a-z])", "≤"),
    (r"\\ge(?:q)?(?![a-z])", "≥"), (r"\\ne(?:q)?(?![a-z])", "≠"), (r"\\cdot(?![a-z])", "·"), (r"\\times(?![a-z])", "×"),
    (r"\\cup(?![a-z])", "∪"), (r"\\in(?![a-z])", "∈"), (r"\\pm(?![a-z])", "±"), (r"\^\\circ", "°"), (r"\^\{\\circ\}", "°"),
    (r"\^2(?!\d)", "²"), (r"\^3(?!\d)", "³"), (r"\\sqrt\{(\d+)\}", r"√\1"), (r"\\frac\{1\}\{2\}|\\frac12", "½"), (r"-", "−"),
    (r"\\emptyset", "∅"), (r"\\angle ?", "∠"),
]  # fmt: skip
_FULL_WIDTH = str.maketrans({character: chr(ord(character) + 0xFEE0) for character in "0123456789()+=,;:[]<>"})


def _closed(gold: str) -> bool:
    return "$" not in gold


def _is_plain(gold: str) -> bool:
    """Without units, bases, ±, and a comma or a full stop whose meaning brackets would change."""
    return not re.search(r"[%$:,_]|circ|pm|\.$", gold)


template("dollars", "$%$", where=_closed)
template("double dollars", "$$%$$", where=_closed)
template("brackets of a formula", r"\(%\)", where=_closed)
template("brackets of a displayed formula", r"\[ % \]", where=_closed)
template("full stop", "%.")
template("bold Markdown", "**%**")
template("space around", "  % ")
template("display style", r"\displaystyle %", where=_closed)
template("thin space behind", r"%\,")
template("trailing backslash", "%\\")
template("box in a box", r"\boxed{%}", where=_closed)
template("brackets around", "(%)", "number", "expression", where=lambda gold: _is_plain(gold))
template("braces around", "{%}", "number", "expression", "relation", "tuple", "matrix", where=lambda gold: not gold.endswith("."))
template("sized brackets", r"\left(%\right)", "number", "expression", where=lambda gold: _is_plain(gold))
template("times one", r"1 \cdot (%)", "number", "expression", where=lambda gold: _is_plain(gold))
template("over one", r"\frac{%}{1}", "number", "expression", where=lambda gold: _is_plain(gold))
template("plus zero", "(%) + 0", "number", "expression", where=lambda gold: _is_plain(gold))
template("twice negated", "-(-(%))", "number", "expression", where=lambda gold: _is_plain(gold))
template("named", "x = %", "number")
template("named by a word", r"\text{Area} = %", "number")
template("counted in Chinese", "%个", "number", where=lambda gold: gold.isdigit())
template("counted", r"%\text{ apples}", "number")
template("plus sign", "+%", "number", where=lambda gold: not gold.startswith("-"))
template("as text", r"\text{%}", "number", "words", "choice", where=lambda gold: "\\" not in gold)
template("in bold type", r"\mathbf{%}", "number", where=lambda gold: "\\" not in gold)
template("choice in brackets", "(%)", "choice", where=lambda gold: len(gold) == 1)
template("choice with a stop", "% .", "choice")
template("choice as bold text", r"\textbf{(%)}", "choice", where=lambda gold: len(gold) == 1)
template("choice with its text", r"\textbf{(%)}\ 24", "choice", where=lambda gold: len(gold) == 1)
template("element", r"x \in %", "interval", "set", where=lambda gold: "\\in " not in gold)


@rule
def spaces_between(gold: str) -> str | None:
    if "text" in gold or "mbox" in gold or pieces.kind(gold) in ("words", "mixed"):
        return None
    return re.sub(r"(?<=[\d)}\w ])\s*(\+|=|<|>|(?<![\^_{(,\[])-|\\cup(?![a-z]))\s*(?=[\d\\({a-zA-Z\[])", r"  \1  ", gold)


@rule
def spaces_dropped(gold: str) -> str | None:
    if "text" in gold or "mbox" in gold or pieces.kind(gold) in ("words", "mixed"):
        return None
    return re.sub(r"(?<![\\\d]) +(?=\d)|(?<!\\) +(?![\da-zA-Z])|(?<=[-+=(,&]) +", "", gold)


@rule
def full_width(gold: str) -> str | None:
    return None if "\\" in gold or "_" in gold else gold.translate(_FULL_WIDTH)


@rule
def unicode(gold: str) -> str | None:
    for pattern, sign in _UNICODE:
        gold = re.sub(pattern, sign, gold)
    return gold


@rule
def large_fractions(gold: str) -> str | None:
    return gold.replace(r"\frac", r"\dfrac")


@rule
def text_fractions(gold: str) -> str | None:
    return gold.replace(r"\dfrac", r"\frac").replace(r"\frac", r"\tfrac")


@rule
def slashes(gold: str) -> str | None:
    if "^\\frac" in gold or pieces.kind(gold) == "mixed" or re.search(r"\d\s*\\[dt]?frac|sin|cos|tan|sec|log", gold):
        return None
    return re.sub(r"\\[dt]?frac\{([^{}]+)\}\{([^{}]+)\}", r"((\1)/(\2))", gold)


@rule
def short_fractions(gold: str) -> str | None:
    return re.sub(r"\\frac\{(\d)\}\{(\d)\}", r"\\frac\1\2", gold)


@rule
def braced_fractions(gold: str) -> str | None:
    return re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", gold)


@rule
def spaced_commands(gold: str) -> str | None:
    return re.sub(r"(\\(?:frac|sqrt|dfrac))(?=[{\[])", r"\1 ", gold)


@rule
def roots_without_braces(gold: str) -> str | None:
    return re.sub(r"\\sqrt\{(\d)\}", r"\\sqrt \1", gold)


@rule
def roots_with_braces(gold: str) -> str | None:
    return re.sub(r"\\sqrt ?(\d)", r"\\sqrt{\1}", gold)


@rule
def roots_as_powers(gold: str) -> str | None:
    return re.sub(r"\\sqrt\{(\d+)\}", r"(\1^{1/2})", gold) if "^" not in gold else None


@rule
def braced_powers(gold: str) -> str | None:
    return re.sub(r"([\^_])(\w)", r"\1{\2}", gold)


@rule
def spaced_powers(gold: str) -> str | None:
    return re.sub(r"\^", " ^ ", gold) if "circ" not in gold and "\\text" not in gold else None


@rule
def stars(gold: str) -> str | None:
    return re.sub(r"\\(?:cdot|times)(?![a-z])", "*", gold)


@rule
def sized_pairs(gold: str) -> str | None:
    if "\\left" in gold:
        return gold.replace("\\left", "").replace("\\right", "")
    if pieces.kind(gold) in ("words", "mixed", "choice", "set"):
        return None
    return re.sub(r"(?<!\\)([(\[])", r"\\left\1", re.sub(r"(?<!\\)([)\]])", r"\\right\1", gold)) if "\\sqrt[" not in gold else None


@rule
def terms_in_reverse(gold: str) -> str | None:
    found = pieces.terms(gold)
    if pieces.kind(gold) != "expression" or len(found) < 2:
        return None
    return " ".join(part if part[0] in "+-" and place else part if part[0] == "-" else f"{'+ ' if place else ''}{part}".strip()
                    for place, part in enumerate(found[::-1])).removeprefix("+")  # fmt: skip
