"""Finds the calculations of a worked solution, in text order: calculator marks, equations in prose, unknowns that are solved for.

A numeric equation counts only if its arithmetic is right, up to the digits that the written result omits. A linear equation in one
unknown counts as written; if the text states the unknown's value, the solution must agree with it.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from mathquarry.data.programs.equations import Token, computes, names_in, parse_expression, read_expression, read_tokens, value_of
from mathquarry.data.programs.linear import solve

MAX_TOKENS = 40
"""Tokens examined on each side of `=`."""
_LITERAL_MARK = re.compile(r"<<\s*[$\d.,]+\s*=[^<>]*>>")
"""`<<20=20>>` calculates nothing, but the text around it may."""


@dataclass(frozen=True)
class Step:
    """One calculation. `value` is the result as written in the solution, `exact` tells whether it is unrounded.

    `unknown` is the letter that was solved for, if any.
    """

    expression: ast.expr
    value: Fraction
    unknown: str | None = None
    exact: bool = True


@dataclass(frozen=True)
class Side:
    """A reading of one side of an equation. `step` is the weight of the last digit if it is a written number, else 0."""

    node: ast.expr
    step: Fraction
    whole: bool
    """Whether no adjacent part of an expression was left out."""


def mark_steps(solution: str) -> list[Step]:
    """Steps from calculator marks only."""
    steps = [_mark_step(match[1]) for match in re.finditer(r"<<([^<>]*)>>", solution)]
    return [step for step in steps if step is not None]


def text_steps(solution: str, percent_is_hundredth: bool) -> tuple[list[Step], list[Step]]:
    """Steps from calculator marks and from the equations between them; and what the text says about solved unknowns.

    The latter are expressions without a written result: `Remy used 3R + 1 gallons`.
    """
    tokens = read_tokens(_LITERAL_MARK.sub("", solution))
    reader = _Reader(tokens, percent_is_hundredth)
    for place, token in enumerate(tokens):
        if token.kind == "mark":
            step = _mark_step(token.text)
            if step is not None:
                reader.steps.append(step)
        elif token.kind == "equals":
            reader.read(place)
    return reader.steps, reader.definitions()


@lru_cache(maxsize=1000)
def _mark_step(mark: str) -> Step | None:
    left, _, right = "".join(mark.split()).replace(",", "").replace("$", "").rpartition("=")
    node, result = (parse_expression(re.sub(r"(?<![\d.])0+(?=\d)", "", side)) for side in (left, right))
    if node is None or result is None or not computes(node):
        return None
    value, computed = value_of(result, {}), value_of(node, {})
    return None if value is None or computed is None else Step(node, value, exact=value == computed)


class _Reader:
    """Reads one solution; `read` looks at one `=` after the other."""

    def __init__(self, tokens: list[Token], percent_is_hundredth: bool) -> None:
        self.tokens, self.percent = tokens, percent_is_hundredth
        self.steps: list[Step] = []
        self.known: dict[str, Fraction] = {}
        self.stated = self._stated()
        self._breaks = [place for place, token in enumerate(tokens) if token.kind in ("stop", "equals", "mark")]
        self._last = (-1, Fraction(0))

    def read(self, place: int) -> None:
        """Add the step from the equation around the `=` at `place`, if there is one."""
        if place + 1 < len(self.tokens) and self.tokens[place + 1].kind == "mark" and _mark_step(self.tokens[place + 1].text):
            return  # the mark is the same calculation
        lefts, rights = self._sides(place)
        if not self._add_numeric(place, lefts, rights):
            self._add_solved(place, lefts, rights)

    def definitions(self) -> list[Step]:
        """The longest expression of solved unknowns between any two breaks, in text order."""
        steps = []
        for start, end in zip([-1, *self._breaks], [*self._breaks, len(self.tokens)], strict=True):
            tokens = self.tokens[start + 1 : end][:MAX_TOKENS]
            if not self.known.keys() & {token.text for token in tokens if token.kind == "name"}:
                continue
            spans = sorted(
                ((first, last) for first in range(len(tokens)) for last in range(first + 3, len(tokens) + 1)), key=lambda s: s[0] - s[1]
            )
            for first, last in spans:
                node = read_expression(tokens[first:last], self.percent)
                value = value_of(node, self.known) if node is not None and computes(node) and names_in(node) else None
                if node is not None and value is not None:
                    steps.append(Step(node, value))
                    break
        return steps

    def _sides(self, place: int) -> tuple[list[Side], list[Side]]:
        """Readings of the text before and after the sign, longest first."""
        start = max([0, place - MAX_TOKENS, *(b + 1 for b in self._breaks if b < place)])
        end = min([len(self.tokens), place + MAX_TOKENS, *(b for b in self._breaks if b > place)])
        if end == place + 1 and end < len(self.tokens) and self.tokens[end].kind == "mark":
            after = read_tokens(self.tokens[end].text.rpartition("=")[2])  # a mark that calculates nothing still has a result
        else:
            after = self.tokens[place + 1 : end]
        before = self.tokens[start:place]
        starts = [cut for cut in range(len(before)) if before[cut].kind != "word"]
        ends = [cut for cut in range(len(after), 0, -1) if after[cut - 1].kind != "word"]
        lefts = [self._side(before[cut:], before[cut - 1] if cut else None) for cut in starts]
        rights = [self._side(after[:cut], after[cut] if cut < len(after) else None) for cut in ends]
        return [side for side in lefts if side], [side for side in rights if side]

    def _side(self, tokens: list[Token], neighbour: Token | None) -> Side | None:
        node = read_expression(tokens, self.percent)
        if node is None:
            return None
        whole = neighbour is None or neighbour.kind == "word"
        written = [token for token in tokens if token.kind in ("number", "percent")]
        step = Fraction(0)
        if len(written) == 1 and (not computes(node) or written[0].kind == "percent") and "(" not in written[0].text:
            step = Fraction(1, 10 ** len(written[0].text.partition(".")[2]))
            if written[0].kind == "percent" and self.percent:
                step /= 100
        return Side(node, step, whole)

    def _add_numeric(self, place: int, lefts: list[Side], rights: list[Side]) -> bool:
        for left in lefts:
            for right in rights:
                if names_in(left.node) or names_in(right.node):
                    continue
                first, second = value_of(left.node, {}), value_of(right.node, {})
                if first is None or second is None or not _agree(first, second, max(left.step, right.step)):
                    continue
                chained = self._last == (max((b for b in self._breaks if b < place), default=-1), second)
                if left.step == 0 and not chained:
                    self.steps.append(Step(left.node, second, exact=first == second))
                elif right.step == 0 and not chained:
                    self.steps.append(Step(right.node, first, exact=first == second))
                elif not chained:
                    continue
                self._last = (place, second)
                return True
        return False

    def _add_solved(self, place: int, lefts: list[Side], rights: list[Side]) -> None:
        for left in lefts:
            for right in rights:
                unknowns = (names_in(left.node) | names_in(right.node)) - set(self.known)
                if len(unknowns) != 1 or not (left.whole and right.whole):
                    continue
                (unknown,) = unknowns
                solution = solve(left.node, right.node, unknown)
                value = value_of(solution, self.known) if solution is not None else None
                if solution is None or value is None or value < 0 or not computes(solution):
                    continue
                if value in self.stated.get(unknown, {value}):
                    self.known[unknown] = value
                    self._last = (place, value)
                    self.steps.append(Step(solution, value, unknown))
                    return

    def _stated(self) -> dict[str, set[Fraction]]:
        """Values that the text explicitly gives to unknowns: `x = 20`."""
        stated: dict[str, set[Fraction]] = {}
        for name, equals, number, after in zip(self.tokens, self.tokens[1:], self.tokens[2:], [*self.tokens[3:], None], strict=False):
            if (name.kind, equals.kind, number.kind) != ("name", "equals", "number") or "(" in number.text:
                continue
            if after is None or after.kind in ("stop", "word"):
                stated.setdefault(name.text, set()).add(Fraction(number.text))
        return stated


def _agree(a: Fraction, b: Fraction, step: Fraction) -> bool:
    """Whether the values are equal, or equal after rounding or cutting decimals as in the written number."""
    return a == b or (step < 1 and abs(a - b) < step)
