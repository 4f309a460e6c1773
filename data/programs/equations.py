"""Reads arithmetic in running text: `27 clips x $4 each` is `27*4`, `9m - 7` is `9*m-7`.

Words between numbers and operators are units and are skipped; `times`, `plus`, `of` and similar words are operators. The result is a
guess until its arithmetic is checked (`data/programs/steps.py`).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from mathquarry.data.programs.arithmetic import ProgramError, evaluate

Kind = Literal["number", "percent", "operator", "open", "close", "equals", "name", "word", "mark", "stop"]


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of text. `text` is in Python's form: no commas in numbers, `*` for `x` and `times`.

    A mixed number is one token, `(1+1/2)`, and so is the fraction without spaces in 2 / 1/4: `(1/4)`.
    """

    kind: Kind
    text: str


_PIECE = re.compile(
    r"(?P<mark><<[^<>]*>>)"
    r"|(?P<mixed>(?<![\d.,/])\d+ (?:and )?\d{1,2}/\d{1,2}(?!\d)|(?<=/ )\d+/\d+)"
    r"|(?P<number>(?:\d{1,3}(?:[, ]\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:\.{2,3})?(?P<percent>\s?%)?"
    r"|(?P<operator>\*\*|[-+*/^×÷−–·∙])"
    r"|(?P<open>[(\[])|(?P<close>[)\]])|(?P<equals>[=≈])"
    r"|(?P<stop>[.,;:!?\n])"
    r"|(?P<word>[^\W\d_]+(?:['’][^\W\d_]+)?)"
)
_SIGNS = {"×": "*", "·": "*", "∙": "*", "÷": "/", "−": "-", "–": "-", "^": "**"}
_SPOKEN = {"times": "*", "multiplied": "*", "plus": "+", "minus": "-", "divided": "/", "of": "*"}
_EQUALS = frozenset(["equals", "equal", "is", "are", "makes"])
_NUMBER_WORDS = ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_SPOKEN_NUMBERS = {word: str(value) for value, word in enumerate(_NUMBER_WORDS, 2)} | {"half": "(1/2)"}


def read_tokens(text: str) -> list[Token]:
    """Tokens of a solution. Signs without arithmetic meaning (`$`, quotes) are dropped, so `$5` is 5."""
    pieces = list(_PIECE.finditer(text))
    return [_token(text, pieces, place) for place in range(len(pieces))]


def _token(text: str, pieces: Sequence[re.Match[str]], place: int) -> Token:
    match = pieces[place]
    if match["mark"]:
        return Token("mark", match[0][2:-2])
    if match["mixed"]:
        *whole, part = match[0].replace(" and", "").split()
        return Token("number", f"({'+'.join([*whole, part])})")
    if match["number"]:
        number = plain_number(match["number"].replace(",", "").replace(" ", ""))
        return Token("percent" if match["percent"] else "number", number)
    if match["operator"]:
        return Token("operator", _SIGNS.get(match[0], match[0]))
    if match["word"]:
        return _word(text, pieces, place)
    kind: Kind = "open" if match["open"] else "close" if match["close"] else "equals" if match["equals"] else "stop"
    return Token(kind, {"open": "(", "close": ")"}.get(kind, match[0]))


def _word(text: str, pieces: Sequence[re.Match[str]], place: int) -> Token:
    """A word: an operator, a number, the name of an unknown, or a unit or other prose."""
    match = pieces[place]
    word = match[0].lower()
    before = pieces[place - 1] if place else None
    after = pieces[place + 1] if place + 1 < len(pieces) else None
    left = before is not None and bool(before["number"] or before["close"] or before["word"])
    right = after is not None and bool(after["number"] or after["open"] or after["mixed"])
    if word == "x" and before and after and left and right and (before.end() < match.start() or match.end() == after.start()):
        return Token("operator", "*")  # in `3x (5)`, x is the unknown
    if word in _SPOKEN:
        return Token("operator", _SPOKEN[word])
    if word in _EQUALS:
        return Token("equals", "=")
    if word in _SPOKEN_NUMBERS:
        return Token("number", _SPOKEN_NUMBERS[word])
    if len(word) == 1 and word.isascii() and _is_unknown(match, before, after):
        return Token("name", match[0])
    return Token("word", match[0])


def _is_unknown(match: re.Match[str], before: re.Match[str] | None, after: re.Match[str] | None) -> bool:
    """Whether a letter is an unknown: it touches a number, or is next to a sign. In `4.8 L / 1.2` it is a unit."""
    if before and before["number"]:
        return before.end() == match.start()
    beside = [other for other in (before, after) if other]
    return any(other["operator"] or other["equals"] or other["open"] or other["close"] for other in beside)


def plain_number(number: str) -> str:
    """Python's form: no leading zeros, and a digit before the point."""
    whole, point, part = number.partition(".")
    return (whole.lstrip("0") or "0") + (point + part if part else "")


def read_expression(tokens: Sequence[Token], percent_is_hundredth: bool) -> ast.expr | None:
    """The expression formed by all of `tokens`, ignoring units; `None` if they form none.

    `30%` is `30/100` or just 30. Products may be written without a sign: `8(20)`, `7c`, `(.5)20`.
    """
    parts: list[str] = []
    for place, token in enumerate(tokens):
        following = tokens[place + 1 : place + 3]
        if token.kind == "word" or _divides_units(token, following):
            continue
        part = f"({token.text}/100)" if token.kind == "percent" and percent_is_hundredth else token.text
        if parts and _ends_operand(parts[-1]) and _starts_operand(part):
            if not (parts[-1].endswith(")") or part == "(" or part[0].isalpha()):
                return None  # two numbers in a row belong to two expressions
            parts.append("*")
        parts.append(part)
    return parse_expression("".join(parts))


def parse_expression(text: str) -> ast.expr | None:
    """The syntax tree of a Python expression, with numbers in their shortest form; `None` if `text` is not an expression."""
    try:
        tree = ast.parse(text.strip(), mode="eval")
        return _Shortest().visit(tree).body if text.strip() else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


class _Shortest(ast.NodeTransformer):
    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        if isinstance(node.value, float) and node.value.is_integer():
            return ast.copy_location(ast.Constant(int(node.value)), node)
        return node


def _divides_units(token: Token, following: Sequence[Token]) -> bool:
    """Whether the sign belongs to units, as in `5 points/dollar * 120` and `pull-ups`."""
    if token.kind != "operator" or token.text not in "/-" or not following or following[0].kind != "word":
        return False
    return len(following) == 1 or following[1].kind in ("operator", "close", "word")


def _ends_operand(part: str) -> bool:
    return part[-1].isalnum() or part[-1] == ")"


def _starts_operand(part: str) -> bool:
    return part[0].isalnum() or part[0] in "(."


def names_in(node: ast.AST) -> set[str]:
    """Names of the unknowns in an expression."""
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def computes(node: ast.AST) -> bool:
    """Whether the expression contains an operation, and so is more than a written number."""
    return any(isinstance(part, ast.BinOp) for part in ast.walk(node))


def source_of(node: ast.expr) -> str:
    """Python source without spaces."""
    return ast.unparse(ast.fix_missing_locations(node)).replace(" ", "")


def value_of(node: ast.expr, known: dict[str, Fraction]) -> Fraction | None:
    """The expression's value, or `None` if it has none: an unknown, a division by zero, a number out of bounds."""
    try:
        return evaluate(ast.fix_missing_locations(ast.Expression(node)).body, known)
    except ProgramError:
        return None
