"""Names and scales that do not matter: the letter of a whole number, the argument of a function, the scale of a ratio."""

from __future__ import annotations

from fractions import Fraction

from mathquarry.data.grade.forms import symbols
from mathquarry.data.grade.reading.tokens import Unreadable
from mathquarry.data.grade.reading.tree import Tree
from mathquarry.data.grade.values.arithmetic import OutOfReach, Undefined, Value, difference, equal, quotient
from mathquarry.data.grade.values.evaluation import number_at

_WHOLE = frozenset(["mathbb Z", "mathbb N"])


def one_parameter(gold: Tree, given: Tree) -> tuple[Tree, Tree]:
    r"""Remove a condition such as `k \in \mathbb{Z}`, and give its letter the same name in both answers.

    `\pi/4 + k\pi` and `n\pi - 3\pi/4` are then the same family of numbers.
    """
    (a, name), (b, other) = _without_condition(gold), _without_condition(given)
    if not name and not other:
        return gold, given
    name = name or _only(symbols(a) - symbols(b)) or other
    other = other or _only(symbols(b) - symbols(a)) or name
    if name != other and name not in symbols(b):
        b = _renamed(b, other, name)
    return (a, a) if _same_family(a, b, name) else (a, b)


def _only(names: set[str]) -> str:
    return next(iter(names)) if len(names) == 1 else ""


def _without_condition(tree: Tree) -> tuple[Tree, str]:
    """An answer without its condition on a whole number, and the letter; the condition stays if the answer is about that letter alone."""
    if tree.op != "list" or len(tree.parts) < 2:
        return tree, ""
    *rest, condition = tree.parts
    if condition.op != "relation" or condition.text != "in" or condition.parts[0].op != "symbol" or condition.parts[1].text not in _WHOLE:
        return tree, ""
    name = condition.parts[0].text
    if name not in symbols(*rest) or any(part.op == "relation" and symbols(part) == {name} for part in rest):
        return tree, ""
    return rest[0] if len(rest) == 1 else Tree("list", tuple(rest), " ".join(tree.text.split()[:-1])), name


def _renamed(tree: Tree, old: str, new: str) -> Tree:
    return tree.map(lambda part: Tree("symbol", text=new) if part.op == "symbol" and part.text == old else None)


def _same_family(a: Tree, b: Tree, name: str) -> bool:
    """Whether two expressions that are linear in a whole number have the same values."""
    if a.op == b.op == "relation" and a.text == b.text == "=" and a.parts[0] == b.parts[0]:
        a, b = a.parts[1], b.parts[1]
    if symbols(a) != {name} or symbols(b) != {name}:
        return False
    try:
        (start, step), (other, second) = _line(a, name), _line(b, name)
        if not step or not (equal(step, second) or equal(step, -second)):
            return False
        shift = quotient(difference(other, start), step)
        return any(equal(shift, Fraction(whole)) for whole in range(-12, 13))
    except (Unreadable, Undefined, OutOfReach):
        return False


def _line(tree: Tree, name: str) -> tuple[Value, Value]:
    zero, one, two, seven = (number_at(tree, {name: Fraction(value)}) for value in (0, 1, 2, 7))
    step = difference(one, zero)
    if not equal(difference(two, one), step) or not equal(difference(seven, two), step * 5):
        raise Unreadable("no linear expression")
    return zero, step


def with_argument_of(gold: Tree, given: Tree, value: Tree) -> Tree:
    """The value of a function in the letter of the gold answer: `t^2` of `f(t) = t^2` is `x^2` beside `f(x)`."""
    if {gold.op, given.op} != {"relation"}:
        return value
    a, b = gold.parts[0], given.parts[0]
    if a.op != "call" or b.op != "call" or [part.op for part in (*a.parts, *b.parts)] != ["symbol", "symbol"]:
        return value
    old, new = b.parts[0].text, a.parts[0].text
    return value if new in symbols(value) else _renamed(value, old, new)


def is_time(ratio: Tree) -> bool:
    """Whether a ratio can be a time of day: `10:15`, not `3:4`."""
    if len(ratio.parts) != 2 or any(part.number is None for part in ratio.parts):
        return False
    hours, minutes = (part.number.value if part.number else Fraction(0) for part in ratio.parts)
    return hours <= 24 and (minutes >= 10 or not minutes) and minutes < 60


def in_first_parts(ratio: Tree) -> tuple[Tree, ...]:
    """The parts of a ratio, each divided by the first."""
    return tuple(Tree("/", (part, ratio.parts[0])) for part in ratio.parts)
