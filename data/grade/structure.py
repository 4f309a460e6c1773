"""The structure of an answer: choices, blanks, lists, tuples and intervals. What is left to compare are single expressions.

The policies are stated in docs/grading.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["single", "list", "set", "bracketed"]

_CHOICES = re.compile(r"\(?([A-J])\)?(?:[\s,、和与]*\(?([A-J])\)?)*")
_CHOICE_FIRST = re.compile(r"(?:\(([A-J])\)|([A-J])(?=$|[.:)、]))")
_WRAPPER = re.compile(r"\\(?:text|textrm|textbf|mathrm|mathbf|mbox|boxed)\{([^{}]*)\}")
_PAIRS = {"(": ")", "[": "]", "{": "}"}
_CHAIN = re.compile(r"(.+?)\s*(<|\\leq?q?(?![a-z]))\s*([A-Za-z])\s*(<|\\leq?q?(?![a-z]))\s*(.+)")


@dataclass(frozen=True)
class Structure:
    """Parts of an answer. `brackets` are those around a tuple or an interval: `(]`."""

    kind: Kind
    parts: tuple[str, ...]
    brackets: str = ""


def read_choices(text: str, alone: bool) -> frozenset[str] | None:
    r"""The letters that an answer to a multiple-choice question names, `None` where it is no such answer.

    With `alone` nothing but letters may stand there (a gold answer); without, an option's text may follow its letter: `\text{(B)} 24`.
    """
    text = _WRAPPER.sub(r"\1", text).replace("$", "").replace("\\", " ").strip()
    if _CHOICES.fullmatch(text):
        letters = re.findall("[A-J]", text)
        # Letters without anything between them are choices only in order: BA is a segment.
        return frozenset(letters) if letters == sorted(set(letters)) or len(letters) < len(text) else None
    if alone:
        return None
    match = _CHOICE_FIRST.match(text)
    return frozenset(match[1] or match[2]) if match else None


def blanks(gold: str, given: str) -> list[tuple[str, str]]:
    """Answers to several blanks, in order: `5;10` against `5; 10` or `5, 10`. One pair when the gold answer has no semicolon."""
    golds = split(gold, ";")
    for separator in ";,":
        answers = split(given, separator)
        if len(answers) == len(golds) > 1:
            return list(zip(golds, answers, strict=True))
    return [(gold, given)]


def read_structure(body: str) -> Structure:
    """A list is written without brackets, a set with braces; everything else in one pair of brackets is a tuple or an interval."""
    text = body.replace(r"\{", "{").replace(r"\}", "}").strip()
    if text and text[0] in _PAIRS and _closes_at_end(text):
        parts = tuple(split(text[1:-1], ","))
        if text[0] == "{":
            return Structure("set", parts) if body.strip().startswith("\\") else Structure("single", (body,))
        return Structure("bracketed", parts, text[0] + text[-1]) if len(parts) > 1 else Structure("single", (body,))
    parts = tuple(split(body, ","))
    return Structure("list", parts) if len(parts) > 1 else Structure("single", (body,))


def cannot_be_equal(gold: str, given: str) -> str | None:
    """Why two answers differ whatever their parts are; `None` where the parts decide.

    A tuple or interval is no list, its brackets count, and so does the number of parts. A set may repeat an element; `±` stands for two.
    """
    a, b = read_structure(gold), read_structure(given)
    if a.kind == b.kind == "bracketed":
        if a.brackets != b.brackets:
            return "different brackets"
        return "different number of parts" if len(a.parts) != len(b.parts) else None
    if {a.kind, b.kind} <= {"list", "single"} and len(a.parts) != len(b.parts) and not re.search(r"\\pm|\\mp|±", gold + given):
        return "different number of parts" if not _joins_words(gold + given) else None
    if {a.kind, b.kind} == {"list", "bracketed"}:
        return "a list is no tuple"
    return None


def as_interval(body: str) -> str:
    r"""`1 \le x < 2` as `[1,2)`; anything else as it is."""
    match = _CHAIN.fullmatch(body)
    if match is None:
        return body
    low, first, _, second, high = match.groups()
    return f"{'(' if first == '<' else '['}{low},{high}{')' if second == '<' else ']'}"


def split(text: str, separator: str) -> list[str]:
    """Split at `separator` outside all brackets; a comma before exactly three digits may group thousands and is looked at by the caller."""
    parts: list[str] = []
    depth = start = 0
    thousands = {match.end() - 4 for match in re.finditer(r"(?<=\d),\d{3}(?!\d)", text)} if _groups_thousands(text) else set()
    for place, character in enumerate(text):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == separator and depth <= 0 and place not in thousands:
            parts.append(text[start:place].strip())
            start = place + 1
    return [*parts, text[start:].strip()]


def _groups_thousands(text: str) -> bool:
    return re.fullmatch(r"[^\d]*\d{1,3}(?:,\d{3})+(?!\d)[^,]*", text) is not None


def _closes_at_end(text: str) -> bool:
    """Whether the bracket that opens the text closes it, a half-open interval's other bracket included."""
    depth = 0
    for place, character in enumerate(text):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
            if depth == 0:
                return place == len(text) - 1
    return False


def _joins_words(text: str) -> bool:
    return re.search(r"\b(?:or|and)\b|\\text", text) is not None
