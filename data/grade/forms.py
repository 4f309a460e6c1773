"""Normalizes trees by removing irrelevant parts, and interprets relations: assignments, definitions, approximations."""

from __future__ import annotations

import re

from mathquarry.data.grade.reading.tokens import Unreadable
from mathquarry.data.grade.reading.tree import Tree
from mathquarry.data.grade.regions import is_inequality
from mathquarry.data.grade.values.arithmetic import OutOfReach, Undefined, within
from mathquarry.data.grade.values.evaluation import number_at

CONSTANTS = frozenset(["pi", "e"])

_UNITLESS = frozenset(["radian"])


def symbols(*trees: Tree) -> set[str]:
    """The letters of expressions, without pi and e."""
    return {part.text for tree in trees for part in tree.walk() if part.op == "symbol"} - CONSTANTS


def without_unit(tree: Tree) -> tuple[Tree, str]:
    """The value of an answer and its unit; radians do not count as a unit."""
    if tree.op == "unit":
        return tree.parts[0], "" if tree.text in _UNITLESS else tree.text
    return tree, ""


def both_signs(tree: Tree) -> Tree:
    """Expand a tree with ± into the list of its two versions; in a list, each part separately."""
    if tree.op in ("list", "set"):
        found = [both_signs(part) for part in tree.parts]
        parts = tuple(inner for part in found for inner in (part.parts if part.op == "list" else (part,)))
        return Tree(tree.op, parts, " ".join([","] * (len(parts) - 1)))
    if not any(part.op == "±" for part in tree.walk()):
        return tree
    plus = tree.map(lambda part: part.parts[0] if part.op == "±" else None)
    minus = tree.map(lambda part: Tree("-", (part.parts[0],)) if part.op == "±" else None)
    return Tree("list", (plus, minus), ",")


def kind_of_region(tree: Tree) -> str | None:
    """`region` for a tree that must be a set of numbers, `maybe` for one that can be."""
    if tree.op in ("reals", "builder", "union", "cut", "without") or is_inequality(tree):
        return "region"
    if tree.op == "relation" and tree.text in ("in", "notin"):
        return "region" if tree.parts[1].op != "set" else None
    if tree.op == "list" and all(kind_of_region(part) == "region" for part in tree.parts) and tree.parts:
        return "region"
    if tree.op == "tuple" and len(tree.parts) == 2:
        return "maybe" if tree.text in ("()", "[]") else "region"
    return "maybe" if tree.op == "set" else None


def as_union(tree: Tree) -> Tree:
    """A list of intervals, one of them with an infinite or an unequal end, as their union; every other tree unchanged."""
    if tree.op != "list" or len(tree.parts) < 2 or any(part.op != "tuple" or len(part.parts) != 2 for part in tree.parts):
        return tree
    sure = any(part.text not in ("()", "[]") or "infinity" in {inner.op for inner in part.walk()} for part in tree.parts)
    return Tree("union", tree.parts) if sure else tree


def membership(tree: Tree) -> Tree:
    """`x in {1, 2}` is the set."""
    if tree.op == "relation" and tree.text == "in" and tree.parts[0].op in ("symbol", "tuple") and tree.parts[1].op in ("set", "tuple"):
        return tree.parts[1]
    return tree


def simplified(tree: Tree) -> Tree:
    """Remove irrelevant parts: `x in {1, 2}` is the set, `x = 1, 2` and `x_1 = 1, x_2 = 2` are lists of values."""
    tree = membership(tree)
    if (
        tree.op == "relation"
        and tree.text == "="
        and tree.parts[1].op in ("set", "tuple", "matrix", "union")
        and tree.parts[0].op in ("symbol", "call", "union", "cut", "without")
    ):
        return tree.parts[1]
    if tree.op == "*" and tree.parts[0].op == "symbol" and tree.parts[0].text.isupper() and len(tree.parts) == 2:
        return tree.parts[1] if tree.parts[1].op == "tuple" else tree  # the name of a point
    if tree.op != "list":
        return tree
    if groups := _alternatives(tree):
        return groups
    if chain := _chain(tree):
        return chain
    names = [part.parts[0].text if _is_assignment(part) else None for part in tree.parts]
    stems = {re.split("_", name)[0] for name in names if name}
    lines = len(set(names)) == 1 and symbols(*(part.parts[-1] for part in tree.parts if part.op == "relation"))
    if (
        len(stems) == 1
        and not lines
        and names[0]
        and all(name or part.op != "relation" for name, part in zip(names, tree.parts, strict=True))
    ):
        parts = tuple(part.parts[-1] if name else part for name, part in zip(names, tree.parts, strict=True))
        return Tree("list", parts, tree.text)
    return tree


def _alternatives(tree: Tree) -> Tree | None:
    """`x=0, y=1 or x=2, y=3` as a list of lists of assignments; None for every other list."""
    joints = tree.text.split()
    if "or" not in joints or len(joints) + 1 != len(tree.parts) or not all(map(_is_assignment, tree.parts)):
        return None
    groups: list[list[Tree]] = [[tree.parts[0]]]
    for joint, part in zip(joints, tree.parts[1:], strict=True):
        if joint == "or":
            groups.append([])
        groups[-1].append(part)
    if any(len(group) < 2 for group in groups):
        return None
    lists = tuple(Tree("list", tuple(group), " ".join([","] * (len(group) - 1))) for group in groups)
    return Tree("list", lists, " ".join(["or"] * (len(groups) - 1)))


def _chain(tree: Tree) -> Tree | None:
    """`a < b, b < c` as `a < b < c`; None for every other list."""
    if not tree.parts or not all(map(is_inequality, tree.parts)):
        return None
    turned = [ascending(part) for part in tree.parts]
    operators, parts = turned[0]
    for others, further in turned[1:]:
        if further[0] != parts[-1]:
            return None
        operators, parts = [*operators, *others], (*parts, *further[1:])
    return Tree("relation", parts, " ".join(operators))


def shared_relation(tree: Tree) -> Tree:
    """`x \\ne 0, 1` as a list of two relations; every other tree unchanged."""
    if tree.op != "list" or not tree.parts:
        return tree
    first = tree.parts[0]
    if first.op != "relation" or first.text != "!=" or any(part.op == "relation" for part in tree.parts[1:]):
        return tree
    return Tree("list", (first, *(Tree("relation", (first.parts[0], part), "!=") for part in tree.parts[1:])), "and")


def _is_assignment(tree: Tree) -> bool:
    return tree.op == "relation" and tree.text == "=" and tree.parts[0].op == "symbol" and tree.parts[0].text not in symbols(tree.parts[1])


def is_tuple_of_names(tree: Tree) -> bool:
    """Whether a relation assigns values to a tuple: `(x, y) = (1, 2)`."""
    return (
        tree.op == "relation"
        and tree.text == "="
        and {part.op for part in tree.parts} == {"tuple"}
        and len(tree.parts[0].parts) == len(tree.parts[1].parts)
    )


def assigned(tree: Tree) -> dict[str, Tree] | None:
    """Letters and their values, if an answer is a list of assignments to different letters, or one to a tuple of letters."""
    if is_tuple_of_names(tree) and all(part.op == "symbol" for part in tree.parts[0].parts):
        return {name.text: value for name, value in zip(tree.parts[0].parts, tree.parts[1].parts, strict=True)}
    if tree.op not in ("list", "tuple") or len(tree.parts) < 2 or not all(map(_is_assignment, tree.parts)):
        return None
    found = {part.parts[0].text: part.parts[1] for part in tree.parts}
    return found if len(found) == len(tree.parts) else None


def defined(tree: Tree) -> tuple[str, Tree | None]:
    """The letter or function that an equation defines, and its value; an expression is its own value; else no value."""
    if tree.op != "relation":
        return "", tree
    operators = tree.text.split()
    if "~" in operators and set(operators) <= {"=", "~"}:
        # An approximation after an exact value adds nothing; by itself it is the value.
        cut = operators.index("~")
        operators = operators[:cut] or ["="]
        tree = Tree("relation", tree.parts[: len(operators) + 1], " ".join(operators))
    if set(operators) != {"="}:
        return "", None
    left, right = tree.parts[0], tree.parts[-1]
    if len(tree.parts) == 2 and left.op not in ("symbol", "call") and right.op == "symbol" and not symbols(left):
        left, right = right, left
    names = symbols(right)
    if left.op == "symbol" and left.text not in CONSTANTS and left.text not in names:
        return left.text, right
    if left.op == "call" and left.text not in ("log", "ln", "sin", "cos", "tan") and left not in right.walk():
        return f"{left.text}()", right
    if not symbols(*tree.parts):
        return "", right
    if _is_quantity(left) and not symbols(right):
        return repr(left), right
    return "", None


def _is_quantity(tree: Tree) -> bool:
    """Whether an expression can be what a problem asks for, `a + b`, `|AB|`, `\\cos A`, and not one side of an equation to solve."""
    parts = list(tree.walk())
    letters = {"x", "y"} if tree.op == "abs" else {"x", "y", "z"}
    return not symbols(tree) & letters and not any(part.op == "number" and tree.op != "call" for part in parts)


def approximated(tree: Tree) -> tuple[Tree, Tree] | None:
    """An exact value and the rounded one after it, `2/3 \\approx 0.67`; None for everything else."""
    if tree.op != "relation" or tree.text != "~" or symbols(*tree.parts):
        return None
    return tree.parts[0], tree.parts[1]


def near(exact: Tree, rounded: Tree) -> bool:
    """Whether a rounded value is within a hundredth of the exact one (our choice)."""
    try:
        return within(number_at(exact, {}), number_at(rounded, {}), 0.01)
    except (Unreadable, OutOfReach, Undefined):
        return False


def names_same(a: str, b: str) -> bool:
    """Whether two names can denote the same function: y and f(x) do; an expression has no name."""
    return not a or not b or {a, b} <= {"y"} | {name for name in (a, b) if name.endswith("()")}


def ascending(tree: Tree) -> tuple[list[str], tuple[Tree, ...]]:
    """Operators and sides of a relation, ordered so that the smaller side comes first."""
    operators = tree.text.split()
    if any(name in (">", ">=") for name in operators):
        flipped = {">": "<", ">=": "<=", "<": ">", "<=": ">="}
        return [flipped.get(name, name) for name in operators[::-1]], tree.parts[::-1]
    return operators, tree.parts


def column(tree: Tree) -> list[list[Tree]] | None:
    r"""A tuple, or `\binom{1}{2}`, as a column; None for a tuple of tuples."""
    if tree.op == "call" and tree.text == "binom":
        return [[part] for part in tree.parts]
    flat = tree.op == "tuple" and tree.text in ("()", "[]") and not any(part.op == "tuple" for part in tree.parts)
    return [[part] for part in tree.parts] if flat else None


def squeezed(words: str) -> str:
    """Words without spaces, full stops and hyphens."""
    return re.sub(r"[\s.-]", "", words)
