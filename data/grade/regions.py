"""Sets of real numbers: intervals, inequalities and their unions, as their end points and a test of membership.

Two sets are equal if they agree at every end point of either and between any two neighbors, so brackets, order, overlap and notation make
no difference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cmp_to_key
from math import ceil, floor

from mathquarry.data.grade.reading.tokens import Unreadable
from mathquarry.data.grade.reading.tree import Tree, number
from mathquarry.data.grade.values.arithmetic import Undefined, Value, between, difference, equal, is_real, less, quotient
from mathquarry.data.grade.values.evaluation import number_at

_CONSTANTS = frozenset(["pi", "e"])
_MOST_INTEGERS = 1000
"""Most integers of a set that are listed."""
_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "!=": "!="}
INEQUALITIES = frozenset(_FLIPPED)


@dataclass(frozen=True)
class Region:
    """`ends`: finite end points. `variable`: the letter that an inequality was written in."""

    ends: tuple[Value, ...]
    contains: Callable[[Value], bool]
    variable: str = ""


def region(tree: Tree) -> Region | None:
    """The set that a tree describes; None if it is not a set, or has symbols in its ends.

    A pair in brackets is always an interval here.
    """
    try:
        return _region(tree)
    except (Unreadable, Undefined):
        return None


def same_region(a: Region, b: Region) -> bool:
    """Whether two sets contain the same numbers and are not written with different letters."""
    if a.variable and b.variable and a.variable != b.variable:
        return False
    ends = sorted({*a.ends, *b.ends}, key=cmp_to_key(lambda x, y: 0 if equal(x, y) else -1 if less(x, y) else 1))
    points: list[Value] = []
    for end in ends:
        if not points or not equal(points[-1], end):
            points += [between(points[-1], end) if points else difference(end, Fraction(1)), end]
    points.append(difference(points[-1], Fraction(-1)) if points else Fraction(0))
    return all(a.contains(point) == b.contains(point) for point in points)


def is_inequality(tree: Tree) -> bool:
    """Whether a tree is a relation with `<`, `>` or similar operators."""
    return tree.op == "relation" and bool(tree.text) and all(name in INEQUALITIES for name in tree.text.split())


def as_interval(tree: Tree) -> Tree:
    """An inequality with symbols in its ends, `a < x <= b`, as the interval `(a, b]`; every other tree unchanged."""
    if not is_inequality(tree):
        return tree
    operators = tree.text.split()
    parts = list(tree.parts)
    if operators[0] in (">", ">="):
        parts, operators = parts[::-1], [_FLIPPED[name] for name in operators[::-1]]
    if len(parts) == 3 and parts[1].op == "symbol" and set(operators) <= {"<", "<="}:
        brackets = ("(" if operators[0] == "<" else "[") + (")" if operators[1] == "<" else "]")
        return Tree("tuple", (parts[0], parts[2]), brackets)
    return tree


def _region(tree: Tree) -> Region:
    if tree.op == "reals":
        return Region((), lambda value: True)
    if tree.op == "tuple":
        return _interval(tree)
    if tree.op == "set":
        values = tuple(_constant(part) for part in tree.parts)
        return Region(values, lambda value: any(equal(value, end) for end in values))
    if tree.op in ("union", "cut", "without"):
        return _combined(tree.op, [_region(part) for part in tree.parts])
    if tree.op == "builder":
        return _built(tree)
    if tree.op == "list":
        found = [_region(part) for part in tree.parts]
        joints = set(tree.text.split())
        if not all(is_inequality(part) or (part.op == "relation" and part.text in ("in", "notin")) for part in tree.parts):
            raise Unreadable("a list is no set of numbers")
        if joints == {"or"} or (joints <= {",", ";"} and not _meet(found)):
            return _combined("union", found)
        if joints <= {"and", ",", ";"}:
            return _combined("cut", found)
    if tree.op == "relation":
        return _solved(tree)
    raise Unreadable("no set of numbers")


def _built(tree: Tree) -> Region:
    """The set of a builder; its letter is bound. Of the integers only those of a bounded set can be listed."""
    element, condition = tree.parts
    inner = replace(_region(condition), variable="")
    domain = element.parts[1].text if element.op == "relation" and element.text == "in" else ""
    if not domain.startswith("mathbb"):
        return inner
    if domain not in ("mathbb Z", "mathbb N") or not inner.ends or not all(isinstance(end, Fraction) for end in inner.ends):
        raise Unreadable("a set of numbers that are not real")
    ends = [end for end in inner.ends if isinstance(end, Fraction)]
    low, high = floor(min(ends)) - 1, ceil(max(ends)) + 1
    if high - low > _MOST_INTEGERS or inner.contains(Fraction(high)) or (domain == "mathbb Z" and inner.contains(Fraction(low))):
        raise Unreadable("too many integers")
    first = 0 if domain == "mathbb N" else low
    return _region(Tree("set", tuple(number(whole) for whole in range(first, high) if inner.contains(Fraction(whole)))))


def _meet(found: list[Region]) -> bool:
    both = _combined("cut", found)
    return not same_region(both, Region((), lambda value: False))


def _combined(op: str, parts: list[Region]) -> Region:
    names = {part.variable for part in parts} - {""}
    if len(names) > 1:
        raise Unreadable("inequalities of several letters")
    tests = [part.contains for part in parts]

    def contains(value: Value) -> bool:
        found = [test(value) for test in tests]
        return any(found) if op == "union" else all(found) if op == "cut" else found[0] and not found[1]

    return Region(tuple(end for part in parts for end in part.ends), contains, names.pop() if names else "")


def _interval(tree: Tree) -> Region:
    if len(tree.parts) != 2:
        raise Unreadable("an interval has two ends")
    low, high = (_bound(part) for part in tree.parts)
    closed = tree.text == "[]"
    if low is not None and high is not None and not less(low, high) and not (closed and equal(low, high)):
        raise Unreadable("an interval goes upwards")  # (1, -2) is a pair, and no more an empty set than [1, -2) is
    if (low is None and tree.text[0] == "[") or (high is None and tree.text[1] == "]"):
        raise Unreadable("an infinite end is no part of an interval")
    return _between(low, high, tree.text[0] == "[", tree.text[1] == "]")


def _between(low: Value | None, high: Value | None, closed_below: bool, closed_above: bool, variable: str = "") -> Region:
    """An interval; None means an infinite end."""

    def contains(value: Value) -> bool:
        above = low is None or (less(low, value) and not equal(low, value)) or (closed_below and equal(low, value))
        return above and (high is None or (less(value, high) and not equal(value, high)) or (closed_above and equal(value, high)))

    return Region(tuple(end for end in (low, high) if end is not None), contains, variable)


def _bound(tree: Tree) -> Value | None:
    return None if any(part.op == "infinity" for part in tree.walk()) else _constant(tree)


def _constant(tree: Tree) -> Value:
    value = number_at(tree, {})
    if not is_real(value):
        raise Unreadable("an end that is not real")
    return value


def _solved(tree: Tree) -> Region:
    """The solutions of a chain of inequalities in one letter, each linear in it; of `x in S`; of `x = 1`, which is one point."""
    operators = tree.text.split()
    if operators in (["in"], ["notin"]):
        inner = _region(tree.parts[1])
        name = tree.parts[0].text if tree.parts[0].op == "symbol" else ""
        test = inner.contains
        return Region(inner.ends, test if operators == ["in"] else lambda value: not test(value), name)
    if not set(operators) <= INEQUALITIES:
        raise Unreadable("no inequality")
    if len(operators) == 1 and (sides := _without_bars(tree)):
        return _region(sides)
    steps = [_step(left, name, right) for left, name, right in zip(tree.parts, operators, tree.parts[1:], strict=False)]
    return _combined("cut", steps)


def _without_bars(tree: Tree) -> Tree | None:
    """`|u| < c` as `u < c and u > -c`, `|u| > c` as `u > c or u < -c`; None for every other relation."""
    left, right, operator = *tree.parts, tree.text
    if right.op == "abs":
        left, right, operator = right, left, _FLIPPED[operator]
    if left.op != "abs" or operator == "!=":
        return None
    sides = (Tree("relation", (left.parts[0], right), operator), Tree("relation", (left.parts[0], Tree("-", (right,))), _FLIPPED[operator]))
    return Tree("list", sides, "and" if operator[0] == "<" else "or")


def _step(left: Tree, operator: str, right: Tree) -> Region:
    names = {part.text for side in (left, right) for part in side.walk() if part.op == "symbol"} - _CONSTANTS
    infinite = [any(part.op == "infinity" for part in side.walk()) for side in (left, right)]
    if len(names) != 1 or any(part.op == "call" and part.text in "fgh" for side in (left, right) for part in side.walk()):
        calls = [side for side in (left, right) if side.op == "call" and len(side.text) == 1]
        if len(calls) != 1:
            raise Unreadable("an inequality of one letter has one letter")
        name = calls[0].text
        other = right if calls[0] is left else left
        slope, zero = (Fraction(1) if calls[0] is left else Fraction(-1)), _constant(other)
    else:
        name = names.pop()
        if any(infinite):
            return Region((), lambda value: True, name)
        gap = Tree("+", (left, Tree("-", (right,))))
        at_zero, at_one, at_two, at_seven = (number_at(gap, {name: Fraction(value)}) for value in (0, 1, 2, 7))
        slope = difference(at_one, at_zero)
        steps = difference(at_two, at_one), quotient(difference(at_seven, at_two), Fraction(5))
        if not slope or not is_real(slope) or not all(equal(step, slope) for step in steps):
            raise Unreadable("an inequality that is not linear")
        zero = quotient(-at_zero, slope)
    if less(slope, Fraction(0)):
        operator = _FLIPPED[operator]
    if operator == "!=":
        return Region((zero,), lambda value: not equal(value, zero), name)
    closed = operator.endswith("=")
    if operator.startswith("<"):
        return _between(None, zero, False, closed, name)
    return _between(zero, None, closed, False, name)
