"""What is read before an answer's kind: choices of a multiple-choice question, and the parts that fill several blanks.

The policies are stated in docs/grading.md.
"""

from __future__ import annotations

import re

_CHOICES = re.compile(r"\(?([A-J])\)?(?:[\s,、和与]*\(?([A-J])\)?)*")
_CHOICE_FIRST = re.compile(r"(?:\(([A-J])\)|([A-J])(?=$|[.:)、]))")
_WRAPPER = re.compile(r"\\(?:text|textrm|textbf|mathrm|mathbf|mbox|boxed)\s?\{([^{}]*)\}")


def read_choices(text: str, alone: bool) -> frozenset[str] | None:
    r"""The letters that an answer to a multiple-choice question names, `None` where it is no such answer.

    With `alone` nothing but letters may stand there (a gold answer); without, an option's text may follow its letter: `\text{(B)} 24`.
    """
    text = _WRAPPER.sub(r"\1", text).replace("$", "").replace("**", "").replace("\\", " ").strip(" .,")
    text = re.sub(r"\band\b", ",", text)
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


def split(text: str, separator: str) -> list[str]:
    """Split at `separator` outside all brackets; a thin space, `\\;`, is no semicolon."""
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
