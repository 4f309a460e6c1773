"""Matrices as rows of trees: sums, products and multiples are worked out, so that only cells are left to compare."""

from __future__ import annotations

from data.grade.syntax import Tree

Rows = list[list[Tree]]


def matrix_of(tree: Tree) -> Rows | None:
    """The rows of an expression that is a matrix; None for everything else, and where shapes do not fit."""
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
