"""Structure that is read before an answer's kind: choices of a multiple-choice question, and parts that fill several blanks.

docs/grading.md states the policies.
"""

from __future__ import annotations

import re

_CHOICES = re.compile(r"\(?([A-J])\)?(?:[\s,、和与]*\(?([A-J])\)?)*")
_CHOICE_FIRST = re.compile(r"(?:\(([A-J])\)|([A-J])(?=$|[.:)、]))")
_ANOTHER = re.compile(r"[\s,]*(?:or\b|and\b|或|和|[,、/]).|.*\([A-J]\)", re.DOTALL)
"""Text after a letter that is not the only choice: `(B) or 24`, `(B) 24 (C) 25`."""
_ANNOUNCED = re.compile(
    r"(?:the )?(?:correct )?(?:(?:answer|option|choice)(?:\s?:| is)?|答案[是为选]|选项?|故选|应选)\s?:?\s?(?=\(?[A-J])", re.IGNORECASE
)
_WRAPPER = re.compile(r"\\(?:text|textrm|textbf|mathrm|mathbf|mbox|boxed)\s?\{([^{}]*)\}")


def read_choices(text: str, alone: bool) -> frozenset[str] | None:
    r"""The letters named by an answer to a multiple-choice question; `None` if it is not such an answer.

    With `alone`, only letters are allowed (a gold answer); without, an option's text may follow its letter: `\text{(B)} 24`.
    """
    text = _WRAPPER.sub(r"\1", text).replace("$", "").replace("**", "").replace("\\", " ").strip(" .,")
    text = re.sub(r"\band\b|(?<=[A-J]) ?[，;；] ?", ",", text)
    if _CHOICES.fullmatch(text):
        letters = re.findall("[A-J]", text)
        # Adjacent letters are choices only if they are in order: BA is a line segment.
        in_order = letters == sorted(set(letters))
        return frozenset(letters) if in_order or (len(letters) < len(text) and not re.search("[A-J][A-J]", text)) else None
    if alone:
        return None
    if announced := _ANNOUNCED.match(text):
        return read_choices(text[announced.end() :], alone=False)
    match = _CHOICE_FIRST.match(text)
    if match is None or _ANOTHER.match(text, match.end()):
        return None
    return frozenset(match[1] or match[2])


def blanks(gold: str, given: str) -> list[tuple[str, str]]:
    """Answers to several blanks, in order: `5;10` against `5; 10` or `5, 10`. One pair when the gold answer has no semicolon."""
    golds = split(gold, ";")
    if len(golds) == 1:
        return [(gold, given)]
    for separator in ";,":
        answers = split(given, separator)
        if len(answers) == len(golds):
            return list(zip(golds, answers, strict=True))
    return [(gold, given)]


def split(text: str, separator: str) -> list[str]:
    """Split at `separator` outside all brackets; a thin space, `\\;`, is not a semicolon."""
    if separator not in text:
        return [text.strip()]
    parts: list[str] = []
    depth = start = 0
    for place, character in enumerate(text):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == separator and depth <= 0 and text[place - 1 : place] != "\\":
            parts.append(text[start:place].strip())
            start = place + 1
    return [*parts, text[start:].strip()]
