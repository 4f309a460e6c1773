"""Take gold answers to pieces for respelling, by rules that share no code with the checker."""

from __future__ import annotations

import re
from fractions import Fraction

_BEGIN_END = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}
MATRIX = re.compile(r"\\begin\{([pbvBV]?matrix)\}(.*)\\end\{\1\}", re.DOTALL)
TEXT = re.compile(r"\\(?:text|textbf|textrm|textit|textnormal|mbox|mathrm|rm|emph)\s?\{([^{}]*)\}")
NUMBER = re.compile(r"(?<![\d.])\d+(?:\.\d+)?(?![\d.])")
WORDS = re.compile(r"(?=.*[A-Za-z])[A-Za-z][A-Za-z' :,.-]*")


def split(text: str, separators: str) -> list[str]:
    """The parts between `separators` outside all brackets; one part if there is none. Escaped ones do not count as separators."""
    parts, depth, start = [], 0, 0
    for place, character in enumerate(text):
        escaped = text[place - 1 : place] == "\\"
        depth += 0 if escaped and character not in "{}" else _BEGIN_END.get(character, 0)
        if depth == 0 and character in separators and not escaped:
            parts.append(text[start:place].strip())
            start = place + 1
    return [*parts, text[start:].strip()]


def kind(gold: str) -> str:
    """`choice`, `number`, `matrix`, `words`, `tuple`, `interval`, `set`, `list`, `relation`, `mixed` (words within) or `expression`."""
    if re.fullmatch(r"[A-J]", gold):
        return "choice"
    if re.fullmatch(r"\W*(?:\\text(?:bf)?\{)?\W*[A-J](?:[^A-Za-z0-9]+[A-J])*\W*", gold):
        return "choices"
    if value(gold) is not None:
        return "number"
    if MATRIX.fullmatch(gold.strip(" .")):
        return "matrix"
    if (text := TEXT.fullmatch(gold.strip())) and WORDS.fullmatch(text[1].strip()):
        return "words"
    if WORDS.fullmatch(gold) and len(gold) > 4 and " - " not in gold:
        return "words"
    if "\\text" in gold or "\\mbox" in gold or "\\mathrm" in gold:
        return "mixed"
    if re.search(r"\\cup|\\cap|\\in(?![a-z])", gold):
        return "interval"
    if len(parts := split(re.sub(r",\s?\\!|\{,\}", "", gold), ",;")) > 1:
        return "list" if all(parts) else "mixed"
    if brackets := re.fullmatch(r"(\(|\[)(.*)(\)|\])", gold.replace("\\left", "").replace("\\right", "")):
        inner = split(brackets[2], ",")
        if len(inner) > 1:
            mixed = brackets[1] + brackets[3] not in ("()", "[]")
            return "interval" if mixed or "infty" in gold or brackets[1] == "[" else "tuple"
    if re.fullmatch(r"\\\{.*\\\}", gold) and gold.count("\\{") == 1:
        return "set"
    if re.search(r"[<>=]|\\[lg]eq?(?![a-z])|\\neq?(?![a-z])", gold):
        return "relation"
    return "expression"


def value(gold: str) -> Fraction | None:
    r"""The value of a plain number: `-12`, `1,234`, `0.5`, `3/4`, `-\frac{3}{4}`; None for everything else."""
    if re.fullmatch(r"-?\d{1,3}(?:,(?:\\!)?\d{3})+|-?\d+", gold):
        return Fraction(int(gold.replace(",", "").replace("\\!", "")))
    if re.fullmatch(r"-?\d*\.\d+", gold):
        return Fraction(gold)
    if match := re.fullmatch(r"(-?)\\[dt]?frac\{(\d+)\}\{(\d+)\}|(-?)(\d+)/(\d+)|(-?)\\[dt]?frac(\d)(\d)", gold):
        groups = [group for group in match.groups() if group is not None]
        return None if int(groups[2]) == 0 else (-1 if groups[0] else 1) * Fraction(int(groups[1]), int(groups[2]))
    return None


def decimal(number: Fraction) -> str | None:
    """The finite decimal of a number, with at most 12 digits after the point; None if it has none."""
    for places in range(1, 13):
        scaled = number * 10**places
        if scaled.denominator == 1:
            whole, rest = divmod(abs(int(scaled)), 10**places)
            return f"{'-' if number < 0 else ''}{whole}.{rest:0{places}d}"
    return None


def cycle(number: Fraction) -> str | None:
    """A periodic decimal such as `0.1\\overline{6}`, with a cycle of at most 12 digits; None for other numbers."""
    rest, under = abs(number) % 1, number.denominator
    digits, seen = "", dict[int, int]()
    left = int(rest * under)
    while left and left not in seen and len(digits) < 30:
        seen[left] = len(digits)
        digits, left = digits + str(left * 10 // under), left * 10 % under
    if not left or left not in seen or len(digits) - seen[left] > 12:
        return None
    start = seen[left]
    return f"{'-' if number < 0 else ''}{int(abs(number))}.{digits[:start]}\\overline{{{digits[start:]}}}"


def terms(text: str) -> list[str]:
    """The terms of a sum with their signs, `x`, `-3`; one if it is no sum, or not one that is safe to split."""
    if re.search(r"[=<>,;:|]|\\(?:le|ge|lt|gt|ne|pm|mp|cup|in|text|mbox|begin|left|right|circ|to|log|sin|cos|tan)(?![a-z])", text):
        return [text]
    found, depth, start = [], 0, 0
    for place, character in enumerate(text):
        depth += _BEGIN_END.get(character, 0)
        if depth == 0 and character in "+-" and text[start:place].strip() and text[place - 1] not in "^_*/{(":
            found.append(text[start:place].strip())
            start = place
    return [*found, text[start:].strip()]


def cells(body: str) -> list[list[str]]:
    """The rows of a matrix's body."""
    rows = [row.strip() for row in re.split(r"\\\\(?:\[\d+pt\])?", body)]
    return [[cell.strip() for cell in row.split("&")] for row in rows if row]


def matrix(rows: list[list[str]], name: str = "pmatrix", joint: str = " & ", end: str = r" \\ ") -> str:
    """A matrix of these cells."""
    return rf"\begin{{{name}}} " + end.join(joint.join(row) for row in rows) + rf" \end{{{name}}}"
