"""Decides whether two answers are equivalent, by kind: text, list, tuple, interval, matrix, relation, expression.

docs/grading.md states the policies. Only answers with an integral, a sum, a limit, or numbers out of reach are left to algebra.
"""

from __future__ import annotations

import itertools

from mathquarry.data.grade.expressions import expressions, literal, proportional, with_exact_ends
from mathquarry.data.grade.forms import (
    approximated,
    as_union,
    ascending,
    assigned,
    both_signs,
    column,
    defined,
    is_tuple_of_names,
    kind_of_region,
    membership,
    names_same,
    near,
    shared_relation,
    simplified,
    squeezed,
    without_unit,
)
from mathquarry.data.grade.matrices import components, matrix_of, square, with_identity
from mathquarry.data.grade.named import in_first_parts, is_time, one_parameter, with_argument_of
from mathquarry.data.grade.outcome import Outcome
from mathquarry.data.grade.reading.readings import Reading, readings
from mathquarry.data.grade.reading.tokens import Number
from mathquarry.data.grade.reading.tree import Tree, number
from mathquarry.data.grade.reading.words import EMPTY, NUMBER_WORDS, REALS, SYNONYMS
from mathquarry.data.grade.regions import INEQUALITIES, as_interval, region, same_region
from mathquarry.data.grade.values.arithmetic import OutOfReach


def compare(gold: str, given: str, tolerance: float = 0.0) -> Outcome | None:
    """The outcome for two answers; None if only algebra can tell. `tolerance` is the relative error allowed in a number."""
    golds, answers = readings(gold), readings(given)
    if not any(answers[0].key):
        return Outcome(False, "empty")
    first: Outcome | None = None
    algebra = False
    for place, (a, b) in enumerate(itertools.product(golds, answers)):
        if place and a.is_last and b.is_last and a.tree != b.tree:
            continue
        if a.key == b.key or _spelled_the_same(a, b):
            return Outcome(True, "same text")
        if a.tree is None or b.tree is None:
            algebra |= (a.needs_algebra or (a.tree is None and b.tree is None)) and not a.is_words and not b.is_words
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


def _spelled_the_same(a: Reading, b: Reading) -> bool:
    """Whether text and letters, such as `\\text{May}` and `May`, are the same letters in the same order."""
    return (a.is_words or b.is_words) and squeezed("".join(a.key)).lower() == squeezed("".join(b.key)).lower()


class _Comparison:
    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance

    def same(self, gold: Tree, given: Tree) -> bool:
        return self.compare(gold, given).equal

    def compare(self, gold: Tree, given: Tree) -> Outcome:
        if gold == given:
            return Outcome(True, "equal numbers" if gold.op == "number" else "same text")
        if gold.is_plain_number and given.is_plain_number:  # most answers; none of the rules below applies to them
            return expressions(gold, given, self.tolerance)
        if "unit" in (gold.op, given.op):
            return self.with_units(gold, given)
        if "text" in (gold.op, given.op):
            return self.texts(gold, given)
        gold, given = one_parameter(gold, given)
        if any(part.op == "±" for tree in (gold, given) for part in tree.walk()):
            return self.compare(*(both_signs(membership(tree)) for tree in (gold, given)))
        gold, given = shared_relation(gold), shared_relation(given)
        if outcome := self.regions(gold, given):
            return outcome
        gold, given = simplified(gold), simplified(given)
        if "tuple" in (gold.op, given.op):
            gold, given = as_interval(gold), as_interval(given)
        if outcome := self.assignments(gold, given):
            return outcome
        gold, given = self.as_vectors(gold, given)
        if outcome := self.collections(gold, given):
            return outcome
        if outcome := self.matrices(gold, given):
            return outcome
        if "ratio" in (gold.op, given.op):
            return self.ratios(gold, given)
        if "relation" in (gold.op, given.op):
            return self.relations(gold, given)
        return expressions(gold, given, self.tolerance)

    def with_units(self, gold: Tree, given: Tree) -> Outcome:
        a, unit = without_unit(gold)
        b, other = without_unit(given)
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
            same = squeezed(gold.text) == squeezed(given.text) or {gold.text, given.text} <= EMPTY
            return Outcome(same, "same text" if same else "different text")
        words, other = (gold, given) if gold.op == "text" else (given, gold)
        if other == Tree("set") and words.text in EMPTY:
            return Outcome(True, "both are empty")
        if words.text in REALS:
            return self.compare(*(Tree("reals") if tree is words else tree for tree in (gold, given)))
        count, *counted = words.text.split() or [""]
        if count in NUMBER_WORDS and (
            not counted or (len(counted) == 1 and counted[0][-1] == "s" and words is given and other.op == "number")
        ):
            return self.compare(*(number(NUMBER_WORDS[count]) if tree is words else tree for tree in (gold, given)))
        if other.op == "symbol" and squeezed(words.text) in (other.text.lower(), squeezed(SYNONYMS.get(other.text.lower(), ""))):
            return Outcome(True, "same text")
        if other.op == "list" and all(part.op == "text" for part in other.parts):
            return Outcome(False, "different number of parts")
        return Outcome(False, "different text")

    def regions(self, gold: Tree, given: Tree) -> Outcome | None:
        if (gold.op == "list") != (given.op == "list"):
            gold, given = as_union(gold), as_union(given)
        kinds = [kind_of_region(tree) for tree in (gold, given)]
        if "region" not in kinds or None in kinds:
            return None
        a, b = region(gold), region(given)
        if not a or not b:
            return None
        same = same_region(a, b)
        if not same:
            # A decimal with enough digits matches the end that rounds to it, as with numbers.
            near, other = region(with_exact_ends(given, a.ends)), region(with_exact_ends(gold, b.ends))
            same = bool(near and same_region(a, near)) or bool(other and same_region(other, b))
        return Outcome(same, "equal sets" if same else "different sets")

    def collections(self, gold: Tree, given: Tree) -> Outcome | None:
        if gold.op == given.op == "tuple":
            if len(gold.parts) != len(given.parts):
                return Outcome(False, "different number of parts")
            if gold.text != given.text:
                return Outcome(False, "different brackets")
            same = all(map(self.same, gold.parts, given.parts))
            return Outcome(same, "equal" if same else "different")
        kinds = {gold.op, given.op}
        if given.op == "list" != gold.op and set(given.text.split()) == {"or"} and len(apart := self.distinct(given.parts)) == 1:
            return self.compare(gold, apart[0])  # `1/2 or 0.5`
        if gold.op == given.op == "union":
            return self.unordered(gold.parts, given.parts)
        if not kinds & {"list", "set"}:
            return Outcome(False, "a list is no tuple") if "tuple" in kinds and not kinds & {"matrix", "*", "^"} else None
        if "tuple" in kinds:
            single = next((tree for tree in (gold, given) if tree.op == "set" and len(tree.parts) == 1), None)
            if single is not None:
                return self.compare(*(tree.parts[0] if tree is single else tree for tree in (gold, given)))
            return Outcome(False, "a list is no tuple")
        if "matrix" in kinds:
            return Outcome(False, "a list is no matrix")
        a, b = ((tree.parts if tree.op in ("list", "set") else (tree,)) for tree in (gold, given))
        if "set" in kinds:
            a, b = self.distinct(a), self.distinct(b)
        return self.unordered(a, b)

    def as_vectors(self, gold: Tree, given: Tree) -> tuple[Tree, Tree]:
        """Read `2i + 3j` as a tuple if the other answer is one; other answers are unchanged."""
        for vector, other in ((gold, given), (given, gold)):
            if vector.op == "tuple" and vector.text == "()" and other.op in ("+", "-", "*", "symbol"):
                rows = components(other, len(vector.parts))
                if rows is not None:
                    found = Tree("tuple", tuple(row[0] for row in rows), "()")
                    return (gold, found) if other is given else (found, given)
        return gold, given

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
        size = len(a or b or ())
        pair = [
            found if found is not None else column(tree) or square(tree) or components(tree, size) or with_identity(tree, size)
            for found, tree in ((a, gold), (b, given))
        ]
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
        scaled = [tree.parts if is_time(gold) else in_first_parts(tree) for tree in (gold, given)]
        same = len(gold.parts) == len(given.parts) and all(map(self.same, *scaled))
        return Outcome(same, "equal" if same else "different")

    def assignments(self, gold: Tree, given: Tree) -> Outcome | None:
        """Compare `x=1, y=2`, in any order, with another such list, a tuple in the order of the letters, or a list."""
        a, b = assigned(gold), assigned(given)
        if a is None and b is None:
            return None
        if a is not None and b is not None:
            same = a.keys() == b.keys() and all(self.same(a[name], b[name]) for name in a)
            return Outcome(same, "equal" if same else "different")
        known, other = (a, given) if a is not None else (b, gold)
        assert known is not None
        if other.op in ("tuple", "matrix"):
            ordered = known if is_tuple_of_names(gold if a is not None else given) else dict(sorted(known.items()))
            values = Tree("tuple", tuple(ordered.values()), "()")
            return self.compare(*((values, other) if a is not None else (other, values)))
        values = Tree("list", tuple(known.values()), " ".join([","] * (len(known) - 1)))
        return self.compare(*((values, other) if a is not None else (other, values)))

    def relations(self, gold: Tree, given: Tree) -> Outcome:
        exact, about = approximated(gold), approximated(given)
        if exact and about:
            return self.compare(exact[0], about[0])
        if exact:
            same = any(self.same(part, given) for part in exact)
            return Outcome(same, "equal numbers" if same else "different numbers")
        if about:
            outcome = self.compare(gold, about[0])
            return outcome if outcome.equal or not near(*about) else self.compare(gold, about[1])
        a, b = as_interval(gold), as_interval(given)
        if "relation" not in (a.op, b.op):
            return self.compare(a, b)
        gold, given = a, b
        name, value = defined(gold)
        other, found = defined(given)
        if value is not None and found is not None:
            if gold.op == given.op == "relation" and name != other and not names_same(name, other):
                return Outcome(proportional(gold, given), "different letters")
            outcome = self.compare(value, with_argument_of(gold, given, found))
            if not outcome.equal and gold.op == given.op == "relation" and proportional(gold, given):
                return Outcome(True, "the same equation")
            return outcome
        if gold.op != given.op:
            return Outcome(False, "an equation is no value")
        if gold.text.split() and set(gold.text.split()) <= INEQUALITIES | {"="} and len(gold.parts) == 2 == len(given.parts):
            same = proportional(gold, given)
            return Outcome(same, "the same relation" if same else "another relation")
        (ops, parts), (others, found_parts) = ascending(gold), ascending(given)
        same = ops == others and len(parts) == len(found_parts) and all(map(self.same, parts, found_parts))
        return Outcome(same, "the same relation" if same else "another relation")
