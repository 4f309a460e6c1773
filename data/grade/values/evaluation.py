"""The value of an expression at given points: exact if arithmetic stays rational, else to 110 digits.

Two expressions are the same function if they agree at all of a few random points where both are real. At this precision they cannot agree
by chance. A term that could be rounded away (1e-80 of its neighbor) is an error, never an agreement.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from mathquarry.data.grade.reading.tokens import Unreadable
from mathquarry.data.grade.reading.tree import Tree
from mathquarry.data.grade.values.arithmetic import Undefined, Value, checked, is_infinite, mp, plus, times, wide
from mathquarry.data.grade.values.functions import call
from mathquarry.data.grade.values.powers import factorial, power, root


def number_at(tree: Tree, point: Mapping[str, Fraction], imaginary: bool = False) -> Value:
    """The value of `tree` where its symbols have the values of `point`; with `imaginary`, i is the imaginary unit.

    Raises `Undefined` if it has no value, and `Unreadable` if it is not an expression.
    """
    return _Evaluation(point, imaginary).value(tree)


class _Evaluation:
    def __init__(self, point: Mapping[str, Fraction], imaginary: bool) -> None:
        self.point, self.imaginary = point, imaginary

    def value(self, tree: Tree) -> Value:
        handle = getattr(self, _HANDLERS.get(tree.op, ""), None)
        if handle is None:
            raise Unreadable(f"{tree.op} is no expression")
        return handle(tree)

    def number(self, tree: Tree) -> Value:
        assert tree.number is not None
        return tree.number.value

    def symbol(self, tree: Tree) -> Value:
        name = tree.text
        if name == "pi":
            return mp.pi + 0
        if name == "e":
            return mp.e + 0
        if name == "i" and self.imaginary:
            return mp.mpc(0, 1)
        if name not in self.point:
            raise Unreadable(f"{name} has no value")
        return self.point[name]

    def infinity(self, tree: Tree) -> Value:
        return mp.inf

    def add(self, tree: Tree) -> Value:
        total: Value = Fraction(0)
        for part in tree.parts:
            total = plus(total, self.value(part))
        return total

    def negative(self, tree: Tree) -> Value:
        return -self.value(tree.parts[0])

    def multiply(self, tree: Tree) -> Value:
        total: Value = Fraction(1)
        for part in tree.parts:
            total = times(total, self.value(part))
        return total

    def divide(self, tree: Tree) -> Value:
        over, under = map(self.value, tree.parts)
        if not under or is_infinite(under):
            raise Undefined
        return over / under if isinstance(over, Fraction) and isinstance(under, Fraction) else checked(wide(over) / wide(under))

    def power(self, tree: Tree) -> Value:
        return power(*map(self.value, tree.parts))

    def root(self, tree: Tree) -> Value:
        radicand, index = map(self.value, tree.parts)
        if not index:
            raise Undefined
        if not isinstance(index, Fraction) or index.denominator != 1 or not 1 <= index <= 1000:
            return power(radicand, 1 / index)
        return root(radicand, int(index))

    def absolute(self, tree: Tree) -> Value:
        return abs(self.value(tree.parts[0]))

    def factorial(self, tree: Tree) -> Value:
        return factorial(self.value(tree.parts[0]))

    def call(self, tree: Tree) -> Value:
        if tree.text == "det":
            return self.determinant(tree.parts[0])
        arguments = [self.value(part) for part in tree.parts]
        return call(tree.text, arguments)

    def determinant(self, tree: Tree) -> Value:
        if tree.op != "matrix" or any(len(row.parts) != len(tree.parts) for row in tree.parts) or len(tree.parts) > 4:
            return call("det", [self.value(tree)])
        return _determinant([[self.value(cell) for cell in row.parts] for row in tree.parts])


_HANDLERS = {
    "number": "number",
    "symbol": "symbol",
    "infinity": "infinity",
    "+": "add",
    "-": "negative",
    "*": "multiply",
    "/": "divide",
    "^": "power",
    "root": "root",
    "abs": "absolute",
    "!": "factorial",
    "call": "call",
}


def _determinant(rows: list[list[Value]]) -> Value:
    if len(rows) == 1:
        return rows[0][0]
    total: Value = Fraction(0)
    for column, value in enumerate(rows[0]):
        minor = _determinant([[cell for place, cell in enumerate(row) if place != column] for row in rows[1:]])
        total = plus(total, times(-value if column % 2 else value, minor))
    return total
