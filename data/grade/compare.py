"""Whether two answers mean the same, by kind first: text, list, tuple, interval, matrix, relation, expression.

The policies are stated in docs/grading.md. Only what holds an integral, a sum or a limit, or numbers out of reach, is left to algebra.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from data.grade.lexer import Number, Unreadable, tidy, tokens
from data.grade.matrices import matrix_of
from data.grade.regions import INEQUALITIES, as_interval, is_inequality, region, same_region
from data.grade.syntax import NeedsAlgebra, Tree, number, parse
from data.grade.values import OutOfReach, Undefined, Value, equal, is_real, less, number_at, quotient, rounds_to, sample, within
from data.grade.words import EMPTY, NUMBER_WORDS

SIGNIFICANT = 5
"""Digits from which on a decimal stands for the exact value that rounds to it (our choice)."""

_CONSTANTS = frozenset(["pi", "e"])
_UNITLESS = frozenset(["radian"])


@dataclass(frozen=True)
class Outcome:
    """Whether two answers mean the same, and what decided it."""

    equal: bool
    reason: str


@dataclass(frozen=True)
class Reading:
    """An answer as it was read: its tokens without spacing, and its tree, or why there is none."""

    key: tuple[str, ...]
    tree: Tree | None
    fault: str = ""
    needs_algebra: bool = False


@lru_cache(maxsize=50_000)
def readings(text: str) -> tuple[Reading, ...]:
    """The ways to read an answer: with a comma in 1,234 as thousands, and as a separator; with a decimal comma in 3,5."""
    text = tidy(text)
    found = [_read(text, True)]
    if re.search(r"\d,\d{3}(?!\d)", text):
        found.append(_read(text, False))
    if re.fullmatch(r"[+-]?\d+,\d+", text) and not re.fullmatch(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+", text):
        found.append(_read(text.replace(",", "."), False))
    return tuple(found)


def _read(text: str, grouped: bool) -> Reading:
    key: tuple[str, ...] = ()
    try:
        found = tokens(text, grouped)
        key = tuple(token.text.lower() if token.kind == "text" else token.text for token in found)
        if based := _BASED.fullmatch(text):
            return Reading(key, Tree("unit", (Tree("symbol", text=based[1].upper()),), f"base {based[2]}"))
        return Reading(key, parse(found))
    except (Unreadable, RecursionError) as error:
        return Reading(key, None, str(error), isinstance(error, NeedsAlgebra))


_BASED = re.compile(r"(?:\\(?:text|mathrm|mathbf)\s?\{\s?)?(\d*[A-F][\dA-F]*)\s?\}?\s?_\s?\{?\s?(\d\d?)\s?\}?")


def compare(gold: str, given: str, tolerance: float = 0.0) -> Outcome | None:
    """The outcome for two answers; None where only algebra can tell. `tolerance` is the relative error of a number that is still right."""
    golds, answers = readings(gold), readings(given)
    if not any(answers[0].key):
        return Outcome(False, "empty")
    first: Outcome | None = None
    algebra = False
    for place, (a, b) in enumerate(itertools.product(golds, answers)):
        if place and _decimal_comma(golds, a) and _decimal_comma(answers, b) and a.tree != b.tree:
            continue
        if a.key == b.key:
            return Outcome(True, "same text")
        if a.tree is None or b.tree is None:
            algebra |= (a.needs_algebra or (a.tree is None and b.tree is None)) and not _wordy(a) and not _wordy(b)
            algebra |= b.needs_algebra and a.tree is not None and a.tree.op != "text"
            outcome = Outcome(False, "unreadable")
        else:
            try:
                outcome = _Comparison(tolerance).compare(a.tree, b.tree)
            except (OutOfReach, RecursionError):
                algebra, outcome = True, Outcome(False, "out of reach")
        if outcome.equal:
            return outcome
        first = first or outcome
    return None if algebra else first


def _decimal_comma(found: Sequence[Reading], reading: Reading) -> bool:
    return len(found) > 1 and reading is found[-1]


def _wordy(reading: Reading) -> bool:
    return reading.tree is not None and reading.tree.op == "text"


def literal(tree: Tree) -> Number | None:
    """The number that an answer writes out in digits, scientific notation included; None for any other."""
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


class _Comparison:
    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance

    def same(self, gold: Tree, given: Tree) -> bool:
        return self.compare(gold, given).equal

    def compare(self, gold: Tree, given: Tree) -> Outcome:
        if gold == given:
            return Outcome(True, "equal numbers" if gold.op == "number" else "same text")
        if "unit" in (gold.op, given.op):
            return self.with_units(gold, given)
        if "text" in (gold.op, given.op):
            return self.texts(gold, given)
        if any(part.op == "±" for tree in (gold, given) for part in tree.walk()):
            return self.compare(_both_signs(gold), _both_signs(given))
        if outcome := self.regions(gold, given):
            return outcome
        gold, given = _simplified(gold), _simplified(given)
        if outcome := self.assignments(gold, given):
            return outcome
        if outcome := self.collections(gold, given):
            return outcome
        if outcome := self.matrices(gold, given):
            return outcome
        if "ratio" in (gold.op, given.op):
            return self.ratios(gold, given)
        if "relation" in (gold.op, given.op):
            return self.relations(gold, given)
        return self.expressions(gold, given)

    # units and words

    def with_units(self, gold: Tree, given: Tree) -> Outcome:
        a, unit = _without_unit(gold)
        b, other = _without_unit(given)
        if unit and other and unit != other:
            if {unit, other} == {"base 10", ""}:
                return self.compare(a, b)
            return Outcome(False, "different units")
        outcome = self.compare(a, b)
        if not outcome.equal and {unit, other} == {"%", ""}:
            percent = Tree("/", (a if unit else b, number(100)))
            written = literal(a if unit else b)
            if written and written.step:
                percent = Tree("number", number=Number(written.value / 100, written.step / 100))
            elif written:
                percent = number(written.value / 100)
            if self.same(percent if unit else a, b if unit else percent):
                return Outcome(True, "equal as percent")
        return outcome

    def texts(self, gold: Tree, given: Tree) -> Outcome:
        if {gold.op, given.op} == {"text"}:
            same = _squeezed(gold.text) == _squeezed(given.text)
            return Outcome(same, "same text" if same else "different text")
        words, other = (gold, given) if gold.op == "text" else (given, gold)
        if other == Tree("set") and words.text in EMPTY:
            return Outcome(True, "both are empty")
        if words.text in NUMBER_WORDS:
            return self.compare(*(number(NUMBER_WORDS[tree.text]) if tree is words else tree for tree in (gold, given)))
        if other.op == "symbol" and _squeezed(words.text) == other.text.lower() and len(other.text) > 1:
            return Outcome(True, "same text")
        if other.op == "list" and all(part.op == "text" for part in other.parts):
            return Outcome(False, "different number of parts")
        return Outcome(False, "different text")

    # sets of numbers

    def regions(self, gold: Tree, given: Tree) -> Outcome | None:
        kinds = [_kind_of_region(tree) for tree in (gold, given)]
        if "region" not in kinds or None in kinds:
            return None
        a, b = region(gold), region(given)
        if a and b:
            same = same_region(a, b)
            return Outcome(same, "equal sets" if same else "different sets")
        return None

    # lists, sets, tuples

    def collections(self, gold: Tree, given: Tree) -> Outcome | None:
        if gold.op == given.op == "tuple":
            if len(gold.parts) != len(given.parts):
                return Outcome(False, "different number of parts")
            if gold.text != given.text:
                return Outcome(False, "different brackets")
            same = all(map(self.same, gold.parts, given.parts))
            return Outcome(same, "equal" if same else "different")
        kinds = {gold.op, given.op}
        if gold.op == given.op == "union":
            return self.unordered(gold.parts, given.parts)
        if not kinds & {"list", "set"}:
            return Outcome(False, "a list is no tuple") if "tuple" in kinds and not kinds & {"matrix", "*", "^"} else None
        if "tuple" in kinds:
            return Outcome(False, "a list is no tuple")
        if "matrix" in kinds:
            return Outcome(False, "a list is no matrix")
        a, b = ((tree.parts if tree.op in ("list", "set") else (tree,)) for tree in (gold, given))
        if "set" in kinds:
            a, b = self.distinct(a), self.distinct(b)
        if kinds == {"list"} and gold.text and set(gold.text.split()) == {";"} == set(given.text.split()):
            same = len(a) == len(b) and all(map(self.same, a, b))
            return Outcome(same, "equal" if same else "different")
        return self.unordered(a, b)

    def distinct(self, parts: tuple[Tree, ...]) -> tuple[Tree, ...]:
        kept: list[Tree] = []
        for part in parts:
            if not any(self.same(part, other) for other in kept):
                kept.append(part)
        return tuple(kept)

    def unordered(self, gold: tuple[Tree, ...], given: tuple[Tree, ...]) -> Outcome:
        if len(gold) != len(given):
            return Outcome(False, "different number of parts")
        rest = list(given)
        for part in gold:
            found = next((other for other in rest if self.same(part, other)), None)
            if found is None:
                return Outcome(False, "different")
            rest.remove(found)
        return Outcome(True, "equal")

    def matrices(self, gold: Tree, given: Tree) -> Outcome | None:
        a, b = matrix_of(gold), matrix_of(given)
        if a is None and b is None:
            return None
        if a is not None and b is not None and "matrix" not in (gold.op, given.op) and gold.op == given.op == "tuple":
            return None
        pair = [found if found is not None else _column(tree) for found, tree in ((a, gold), (b, given))]
        if pair[0] is None or pair[1] is None:
            return Outcome(False, "a matrix is no other kind")
        shapes = [(len(found), len(found[0])) for found in pair if found]
        if shapes[0] != shapes[1] and not (None in (a, b) and shapes[0] == shapes[1][::-1]):
            return Outcome(False, "another shape")
        cells = [[cell for row in found for cell in row] for found in pair if found]
        same = all(map(self.same, *cells))
        return Outcome(same, "equal matrices" if same else "different matrices")

    def ratios(self, gold: Tree, given: Tree) -> Outcome:
        if gold.op != given.op:
            ratio, other = (gold, given) if gold.op == "ratio" else (given, gold)
            if len(ratio.parts) == 2 and other.op == "/":
                return self.compare(*(Tree("/", tree.parts) if tree is ratio else tree for tree in (gold, given)))
            return Outcome(False, "a ratio is no number")
        same = len(gold.parts) == len(given.parts) and all(map(self.same, gold.parts, given.parts))
        return Outcome(same, "equal" if same else "different")

    # relations

    def assignments(self, gold: Tree, given: Tree) -> Outcome | None:
        """`x=1, y=2` in any order, against another such list, a tuple in the order of the letters, or a list."""
        a, b = _assigned(gold), _assigned(given)
        if a is None and b is None:
            return None
        if a is not None and b is not None:
            same = a.keys() == b.keys() and all(self.same(a[name], b[name]) for name in a)
            return Outcome(same, "equal" if same else "different")
        known, other = (a, given) if a is not None else (b, gold)
        assert known is not None
        if other.op in ("tuple", "matrix"):
            ordered = known if _is_tuple_of_names(gold if a is not None else given) else dict(sorted(known.items()))
            values = Tree("tuple", tuple(ordered.values()), "()")
            return self.compare(*((values, other) if a is not None else (other, values)))
        values = Tree("list", tuple(known.values()), " ".join([","] * (len(known) - 1)))
        return self.compare(*((values, other) if a is not None else (other, values)))

    def relations(self, gold: Tree, given: Tree) -> Outcome:
        exact, about = _approximated(gold), _approximated(given)
        if exact and about:
            return self.compare(exact[0], about[0])
        if exact:
            same = any(self.same(part, given) for part in exact)
            return Outcome(same, "equal numbers" if same else "different numbers")
        if about:
            outcome = self.compare(gold, about[0])
            return outcome if outcome.equal or not _near(*about) else self.compare(gold, about[1])
        a, b = as_interval(gold), as_interval(given)
        if "relation" not in (a.op, b.op):
            return self.compare(a, b)
        gold, given = a, b
        name, value = _defined(gold)
        other, found = _defined(given)
        if value is not None and found is not None:
            if gold.op == given.op == "relation" and name != other and not _names_same(name, other):
                return Outcome(self.proportional(gold, given), "different letters")
            outcome = self.compare(value, found)
            if not outcome.equal and gold.op == given.op == "relation" and self.proportional(gold, given):
                return Outcome(True, "the same equation")
            return outcome
        if gold.op != given.op:
            return Outcome(False, "an equation is no value")
        if gold.text.split() and set(gold.text.split()) <= INEQUALITIES | {"="} and len(gold.parts) == 2 == len(given.parts):
            same = self.proportional(gold, given)
            return Outcome(same, "the same relation" if same else "another relation")
        (ops, parts), (others, found_parts) = _ascending(gold), _ascending(given)
        same = ops == others and len(parts) == len(found_parts) and all(map(self.same, parts, found_parts))
        return Outcome(same, "the same relation" if same else "another relation")

    def proportional(self, gold: Tree, given: Tree) -> bool:
        """Whether left minus right of one relation is a constant multiple of the other's; a positive one, where the order matters."""
        if len(gold.parts) != 2 or len(given.parts) != 2:
            return False
        (ops, a), (others, b) = _ascending(gold), _ascending(given)
        if ops != others:
            return False
        first, second = (Tree("+", (parts[0], Tree("-", (parts[1],)))) for parts in (a, b))
        names = _symbols(first, second)
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

    # expressions

    def expressions(self, gold: Tree, given: Tree) -> Outcome:
        names = _symbols(gold, given)
        imaginary = "i" in names and not names & {"j", "k"}
        names -= {"i"} if imaginary else set()
        if not names:
            return self.numbers(gold, given, imaginary)
        try:
            same = _same_function(gold, given, names, imaginary)
        except OutOfReach:
            raise
        except Undefined:
            return Outcome(False, "undefined")
        except Unreadable:
            return Outcome(False, "different kinds")
        return Outcome(same, "equal" if same else "different")

    def numbers(self, gold: Tree, given: Tree, imaginary: bool) -> Outcome:
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
        if self.tolerance and is_real(a) and is_real(b) and within(a, b, self.tolerance):
            return Outcome(True, "equal within the tolerance")
        return Outcome(False, "different numbers")


_POINTS = [("positive", 0), ("positive", 1), ("signed", 2), ("signed", 3), ("signed", 4), ("signed", 5)]


def _same_function(gold: Tree, given: Tree, names: set[str], imaginary: bool) -> bool:
    """Whether two expressions agree wherever both are real; at whole numbers, or as complex ones, where they are real nowhere else."""
    agreed = 0
    complex_points: list[tuple[Value, Value]] = []
    for kind, trial in [*_POINTS, *(("integer", trial) for trial in range(6))]:
        if kind == "integer" and agreed >= 2:
            break
        point = {name: sample(name, trial, kind) for name in names}
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


def _significant(written: Number) -> bool:
    assert written.step is not None
    return abs(written.value) >= written.step * 10 ** (SIGNIFICANT - 1)


def _symbols(*trees: Tree) -> set[str]:
    return {part.text for tree in trees for part in tree.walk() if part.op == "symbol"} - _CONSTANTS


def _without_unit(tree: Tree) -> tuple[Tree, str]:
    if tree.op == "unit":
        return tree.parts[0], "" if tree.text in _UNITLESS else tree.text
    return tree, ""


def _squeezed(words: str) -> str:
    return re.sub(r"[\s.-]", "", words)


def _both_signs(tree: Tree) -> Tree:
    """A tree with ± as the list of its two versions; in a list each part by itself."""
    if tree.op in ("list", "set"):
        found = [_both_signs(part) for part in tree.parts]
        parts = tuple(inner for part in found for inner in (part.parts if part.op == "list" else (part,)))
        return Tree(tree.op, parts, " ".join([","] * (len(parts) - 1)))
    if not any(part.op == "±" for part in tree.walk()):
        return tree
    plus = tree.map(lambda part: part.parts[0] if part.op == "±" else None)
    minus = tree.map(lambda part: Tree("-", (part.parts[0],)) if part.op == "±" else None)
    return Tree("list", (plus, minus), ",")


def _kind_of_region(tree: Tree) -> str | None:
    """`region` for what must be a set of numbers, `maybe` for what can be one."""
    if tree.op in ("reals", "builder", "union", "cut", "without") or is_inequality(tree):
        return "region"
    if tree.op == "relation" and tree.text in ("in", "notin"):
        return "region" if tree.parts[1].op != "set" else None
    if tree.op == "list" and all(_kind_of_region(part) == "region" for part in tree.parts) and tree.parts:
        return "region"
    if tree.op == "tuple" and len(tree.parts) == 2:
        return "maybe" if tree.text in ("()", "[]") else "region"
    return "maybe" if tree.op == "set" else None


def _simplified(tree: Tree) -> Tree:
    """Without what makes no difference: `x in {1, 2}` is the set, `x = 1, 2` and `x_1 = 1, x_2 = 2` are lists of values."""
    if tree.op == "relation" and tree.text == "in" and tree.parts[0].op in ("symbol", "tuple") and tree.parts[1].op in ("set", "tuple"):
        return tree.parts[1]
    if (
        tree.op == "relation"
        and tree.text == "="
        and tree.parts[1].op in ("set", "tuple", "matrix", "union")
        and tree.parts[0].op in ("symbol", "call")
    ):
        return tree.parts[1]
    if tree.op != "list":
        return tree
    names = [part.parts[0].text if _is_assignment(part) else None for part in tree.parts]
    stems = {re.split("_", name)[0] for name in names if name}
    if len(stems) == 1 and names[0] and all(name or part.op != "relation" for name, part in zip(names, tree.parts, strict=True)):
        parts = tuple(part.parts[-1] if name else part for name, part in zip(names, tree.parts, strict=True))
        return Tree("list", parts, tree.text)
    return tree


def _is_assignment(tree: Tree) -> bool:
    return tree.op == "relation" and tree.text == "=" and tree.parts[0].op == "symbol" and tree.parts[0].text not in _symbols(tree.parts[1])


def _is_tuple_of_names(tree: Tree) -> bool:
    return (
        tree.op == "relation"
        and tree.text == "="
        and {part.op for part in tree.parts} == {"tuple"}
        and len(tree.parts[0].parts) == len(tree.parts[1].parts)
    )


def _assigned(tree: Tree) -> dict[str, Tree] | None:
    """Letters and their values, where an answer is a list of assignments to different letters, or one to a tuple of letters."""
    if _is_tuple_of_names(tree) and all(part.op == "symbol" for part in tree.parts[0].parts):
        return {name.text: value for name, value in zip(tree.parts[0].parts, tree.parts[1].parts, strict=True)}
    if tree.op not in ("list", "tuple") or len(tree.parts) < 2 or not all(map(_is_assignment, tree.parts)):
        return None
    found = {part.parts[0].text: part.parts[1] for part in tree.parts}
    return found if len(found) == len(tree.parts) else None


def _defined(tree: Tree) -> tuple[str, Tree | None]:
    """The letter or function that an equation defines, and its value; an expression is its own value; else no value."""
    if tree.op != "relation":
        return "", tree
    operators = tree.text.split()
    if "~" in operators and set(operators) <= {"=", "~"}:
        # An approximation after an exact value adds nothing; alone it is the value.
        cut = operators.index("~")
        operators = operators[:cut] or ["="]
        tree = Tree("relation", tree.parts[: len(operators) + 1], " ".join(operators))
    if set(operators) != {"="}:
        return "", None
    left, right = tree.parts[0], tree.parts[-1]
    if len(tree.parts) == 2 and left.op not in ("symbol", "call") and right.op == "symbol" and not _symbols(left):
        left, right = right, left
    names = _symbols(right)
    if left.op == "symbol" and left.text not in _CONSTANTS and left.text not in names:
        return left.text, right
    if left.op == "call" and left.text not in ("log", "ln", "sin", "cos", "tan") and left not in right.walk():
        return f"{left.text}()", right
    if not _symbols(*tree.parts):
        return "", right
    return "", None


def _approximated(tree: Tree) -> tuple[Tree, Tree] | None:
    """An exact value and the rounded one after it, `2/3 \\approx 0.67`; None for everything else."""
    if tree.op != "relation" or tree.text != "~" or _symbols(*tree.parts):
        return None
    return tree.parts[0], tree.parts[1]


def _near(exact: Tree, rounded: Tree) -> bool:
    """Whether a rounded value could be that of the exact one: within a hundredth of it (our choice)."""
    try:
        return within(number_at(exact, {}), number_at(rounded, {}), 0.01)
    except (Unreadable, OutOfReach, Undefined):
        return False


def _names_same(a: str, b: str) -> bool:
    """y and f(x) define the same function; an expression has no letter."""
    return not a or not b or {a, b} <= {"y"} | {name for name in (a, b) if name.endswith("()")}


def _ascending(tree: Tree) -> tuple[list[str], tuple[Tree, ...]]:
    operators = tree.text.split()
    if any(name in (">", ">=") for name in operators):
        flipped = {">": "<", ">=": "<=", "<": ">", "<=": ">="}
        return [flipped.get(name, name) for name in operators[::-1]], tree.parts[::-1]
    return operators, tree.parts


def _column(tree: Tree) -> list[list[Tree]] | None:
    """A tuple in round brackets as a column."""
    return [[part] for part in tree.parts] if tree.op == "tuple" and tree.text in ("()", "[]") else None
