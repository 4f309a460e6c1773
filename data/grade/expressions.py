"""Compares two expressions, or two sides of relations: exactly if they are numbers, at random points if they have letters."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from mathquarry.data.grade.forms import ascending, symbols
from mathquarry.data.grade.outcome import Outcome
from mathquarry.data.grade.reading.tokens import Number, Unreadable
from mathquarry.data.grade.reading.tree import Tree, number
from mathquarry.data.grade.values.arithmetic import OutOfReach, Undefined, Value, equal, is_real, less, quotient, rounds_to, within
from mathquarry.data.grade.values.evaluation import number_at
from mathquarry.data.grade.values.samples import sample

SIGNIFICANT = 5
"""A decimal with at least this many digits matches an exact value that rounds to it (our choice)."""

_POINTS = [("positive", 0), ("positive", 1), ("signed", 2), ("signed", 3), ("signed", 4), ("signed", 5)]


def expressions(gold: Tree, given: Tree, tolerance: float) -> Outcome:
    """The outcome for two expressions; `tolerance` is the relative error allowed in a number."""
    names = symbols(gold, given)
    imaginary = "i" in names and not names & {"j", "k"}
    names -= {"i"} if imaginary else set()
    if not names:
        return _numbers(gold, given, imaginary, tolerance)
    try:
        same = _same_function(gold, given, names, imaginary)
    except OutOfReach:
        raise
    except Undefined:
        return Outcome(False, "undefined")
    except Unreadable:
        return Outcome(False, "different kinds")
    return Outcome(same, "equal" if same else "different")


def _numbers(gold: Tree, given: Tree, imaginary: bool, tolerance: float) -> Outcome:
    try:
        a, b = number_at(gold, {}, imaginary), number_at(given, {}, imaginary)
    except Undefined:
        return Outcome(False, "undefined")
    except OutOfReach:
        raise
    except Unreadable:
        return Outcome(False, "different kinds")
    if equal(a, b):
        return Outcome(True, "equal numbers")
    written, found = literal(gold), literal(given)
    if found and found.step and not (written and written.step) and isinstance(a, Fraction):
        close = _significant(found) and a.denominator > 1 and rounds_to(a, found.value, found.step)
    elif written and written.step and not (found and found.step):
        exact = not isinstance(b, Fraction) or b.denominator > 1
        close = _significant(written) and exact and rounds_to(b, written.value, written.step)
    else:
        close = False
    if close:
        return Outcome(True, "equal numbers")
    if tolerance and is_real(a) and is_real(b) and within(a, b, tolerance):
        return Outcome(True, "equal within the tolerance")
    return Outcome(False, "different numbers")


def literal(tree: Tree) -> Number | None:
    """The number that an answer writes in digits, including scientific notation; None for any other answer."""
    if tree.op == "number":
        return tree.number
    if tree.op == "-" and (inner := literal(tree.parts[0])):
        return Number(-inner.value, inner.step)
    if tree.op == "*" and len(tree.parts) == 2 and tree.parts[0].op == "number" and tree.parts[1].op == "^":
        base, exponent = (literal(part) for part in tree.parts[1].parts)
        mantissa = tree.parts[0].number
        if base and exponent and mantissa and base.value == 10 and exponent.value.denominator == 1 and abs(exponent.value) <= 400:
            scale = Fraction(10) ** int(exponent.value)
            value = mantissa.value * scale
            return Number(value, (mantissa.step or Fraction(1)) * scale if value.denominator > 1 else None)
    return None


def proportional(gold: Tree, given: Tree) -> bool:
    """Whether left minus right of one relation is a constant multiple of the other's (a positive one, if the order matters)."""
    if len(gold.parts) != 2 or len(given.parts) != 2:
        return False
    (ops, a), (others, b) = ascending(gold), ascending(given)
    if ops != others:
        return False
    first, second = (Tree("+", (parts[0], Tree("-", (parts[1],)))) for parts in (a, b))
    names = symbols(first, second)
    if not names:
        return False
    ratios: list[Value] = []
    for kind, trial in _POINTS:
        point = {name: sample(name, trial, kind) for name in names}
        try:
            x, y = number_at(first, point), number_at(second, point)
        except Undefined:
            continue
        except Unreadable:
            return False
        if not is_real(x) or not is_real(y):
            continue
        if not x or not y:
            return False
        ratios.append(quotient(x, y))
    if len(ratios) < 2 or not all(equal(ratios[0], ratio) for ratio in ratios):
        return False
    return ops[0] in ("=", "!=") or less(Fraction(0), ratios[0])


def with_exact_ends(tree: Tree, ends: Sequence[Value]) -> Tree:
    """Replace decimals with enough digits in a set of numbers by the exact periodic fractions, ends of another set, that round to them."""
    periodic = [end for end in ends if isinstance(end, Fraction) and 10**400 % end.denominator]

    def change(part: Tree) -> Tree | None:
        written = part.number
        if part.op != "number" or written is None or not written.step or not _significant(written):
            return None
        return next((number(end) for end in periodic if rounds_to(end, written.value, written.step)), None)

    return tree.map(change)


def _same_function(gold: Tree, given: Tree, names: set[str], imaginary: bool) -> bool:
    """Whether two expressions agree wherever both are real; if they are real nowhere, at integers or as complex numbers.

    A letter in the exponent of a negative number, as in `(-1)^n`, is an integer.
    """
    whole = _whole_numbers(gold) | _whole_numbers(given)
    agreed = 0
    complex_points: list[tuple[Value, Value]] = []
    for kind, trial in [*_POINTS, *(("integer", trial) for trial in range(6))]:
        if kind == "integer" and agreed >= 2:
            break
        point = {name: sample(name, trial, "integer" if name in whole else kind) for name in names}
        found = []
        for tree in (gold, given):
            try:
                found.append(number_at(tree, point, imaginary))
            except Undefined:
                break
        if len(found) < 2:
            continue
        a, b = found
        if is_real(a) and is_real(b):
            if not equal(a, b):
                return False
            agreed += 1
        elif kind != "integer":
            complex_points.append((a, b))
            if imaginary and kind == "positive" and not equal(a, b):
                return False
    if imaginary or agreed < 2:
        return agreed + len(complex_points) >= 2 and all(equal(a, b) for a, b in complex_points[:2])
    return True


def _whole_numbers(tree: Tree) -> set[str]:
    """Letters in exponents of negative numbers."""
    powers = (part for part in tree.walk() if part.op == "^" and part.parts[0].op == "-" and part.parts[0].parts[0].op == "number")
    return {name for power in powers for name in symbols(power.parts[1])}


def _significant(written: Number) -> bool:
    assert written.step is not None
    return abs(written.value) >= written.step * 10 ** (SIGNIFICANT - 1)
