"""Matrices as rows of trees. Sums, products and multiples are computed, so that only cells remain to compare."""

from __future__ import annotations

from fractions import Fraction

from mathquarry.data.grade.reading.tokens import Unreadable
from mathquarry.data.grade.reading.tree import Tree, number
from mathquarry.data.grade.values.arithmetic import Undefined, difference, equal
from mathquarry.data.grade.values.evaluation import number_at

Rows = list[list[Tree]]


def matrix_of(tree: Tree) -> Rows | None:
    """The rows of an expression that is a matrix; None for everything else, and if shapes do not fit."""
    if tree.op == "matrix":
        return [list(row.parts) for row in tree.parts]
    if not any(part.op == "matrix" for part in tree.walk()) and not _is_transposed(tree):
        return None
    if tree.op == "-":
        return _negated(tree.parts[0])
    if _is_transposed(tree):
        inner = matrix_of(tree.parts[0]) or ([list(tree.parts[0].parts)] if tree.parts[0].op == "tuple" else None)
        return [list(column) for column in zip(*inner, strict=True)] if inner else None
    if tree.op == "/":
        inner = matrix_of(tree.parts[0])
        return [[Tree("/", (cell, tree.parts[1])) for cell in row] for row in inner] if inner else None
    if tree.op == "+":
        return _sum([matrix_of(part) for part in tree.parts])
    if tree.op == "*":
        return _product(tree.parts)
    return None


def _is_transposed(tree: Tree) -> bool:
    return tree.op == "^" and tree.parts[1].op == "symbol" and tree.parts[1].text in ("T", "top", "'")


def _negated(tree: Tree) -> Rows | None:
    inner = matrix_of(tree)
    return [[Tree("-", (cell,)) for cell in row] for row in inner] if inner else None


def _sum(parts: list[Rows | None]) -> Rows | None:
    if any(part is None for part in parts):
        return None
    found = [part for part in parts if part is not None]
    if len({(len(part), len(part[0])) for part in found}) != 1:
        return None
    return [[Tree("+", cells) for cells in zip(*rows, strict=True)] for rows in zip(*found, strict=True)]


def _product(parts: tuple[Tree, ...]) -> Rows | None:
    result: Rows | None = None
    scale: list[Tree] = []
    for part in parts:
        rows = matrix_of(part)
        if rows is None:
            if part.op in ("tuple", "list", "set", "relation", "text"):
                return None
            scale.append(part)
        elif result is None:
            result = rows
        elif len(result[0]) != len(rows):
            return None
        else:
            result = [
                [Tree("+", tuple(Tree("*", pair) for pair in zip(row, column, strict=True))) for column in zip(*rows, strict=True)]
                for row in result
            ]
    if result is None or not scale:
        return result
    return [[Tree("*", (*scale, cell)) for cell in row] for row in result]


def with_identity(tree: Tree, size: int) -> Rows | None:
    """The rows of an expression with the identity matrix, `I` or `I_2`, of a size; None for every other tree."""
    rows = tuple(Tree("row", tuple(number(int(row == column)) for column in range(size))) for row in range(size))
    names = ("I", f"I_{size}", "I_n")
    return matrix_of(tree.map(lambda part: Tree("matrix", rows) if part.op == "symbol" and part.text in names else None))


def square(tree: Tree) -> Rows | None:
    """`[[1, 2], [3, 4]]` as rows; None for every other tree."""
    if tree.op != "tuple" or len({(part.op, part.text, len(part.parts)) for part in tree.parts}) != 1 or tree.parts[0].op != "tuple":
        return None
    return [list(part.parts) for part in tree.parts] if tree.text == tree.parts[0].text == "[]" else None


def components(tree: Tree, size: int) -> Rows | None:
    """`2i - j + 3k` with numbers before the unit vectors as a column of `size` rows; None for every other tree."""
    names = ("i", "j", "k")[:size]
    found = {part.text for part in tree.walk() if part.op == "symbol"}
    if not 2 <= size <= 3 or "j" not in found | {"j" if "k" in found else ""} or not found <= {*names, "pi", "e"}:
        return None
    points = [{name: Fraction(name == axis) for name in names} for axis in names]
    points += [dict.fromkeys(names, Fraction(0)), {name: Fraction(2 + 3 * place) for place, name in enumerate(names)}]
    try:
        *values, origin, far = (number_at(tree, point) for point in points)
        total = origin
        for place, value in enumerate(values):
            total = difference(total, -value * (2 + 3 * place))
    except (Unreadable, Undefined):
        return None
    if origin or not equal(total, far):
        return None
    return [
        [number(value) if isinstance(value, Fraction) else _times_unit(tree, name, names)]
        for value, name in zip(values, names, strict=True)
    ]


def _times_unit(tree: Tree, name: str, names: tuple[str, ...]) -> Tree:
    """The coefficient of one unit vector: the tree with that vector set to 1 and the others to 0."""
    return tree.map(lambda part: number(int(part.text == name)) if part.op == "symbol" and part.text in names else None)
