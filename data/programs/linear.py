"""Solves linear equations in one unknown as an expression: `9*m-7+m=93` gives `m=(93+7)/(9+1)`."""

from __future__ import annotations

import ast
from collections.abc import Callable

from mathquarry.data.programs.equations import names_in, value_of

Term = tuple[int, ast.expr]
"""A sign, 1 or -1, and the expression after it."""


def solve(left: ast.expr, right: ast.expr, unknown: str) -> ast.expr | None:
    """The value of `unknown` in `left = right`, built from the numbers as written; `None` if the equation is not linear in it."""
    left_terms, right_terms = _terms(left, unknown), _terms(right, unknown)
    if left_terms is None or right_terms is None:
        return None
    factors = [*left_terms[0], *_negated(right_terms[0])]
    constants = [term for term in [*right_terms[1], *_negated(left_terms[1])] if not _is_number(term[1], 0)]
    if not factors or not constants:
        return None
    total = value_of(_sum(factors), {})
    if total is not None and total < 0:
        factors, constants = _negated(factors), _negated(constants)
    if len(factors) == 1 and _is_number(factors[0][1], 1):
        return _sum(constants)
    return ast.BinOp(_sum(constants), ast.Div(), _sum(factors))


def _terms(node: ast.expr, unknown: str) -> tuple[list[Term], list[Term]] | None:
    """Factors of the unknown, and terms without it; `None` if the expression is not linear."""
    if unknown not in names_in(node):
        return [], [(1, node)]
    match node:
        case ast.Name():
            return [(1, ast.Constant(1))], []
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            inner = _terms(operand, unknown)
            return inner and (_negated(inner[0]), _negated(inner[1]))
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=right):
            first, second = _terms(left, unknown), _terms(right, unknown)
            if first is None or second is None:
                return None
            if isinstance(op, ast.Sub):
                second = _negated(second[0]), _negated(second[1])
            return first[0] + second[0], first[1] + second[1]
        case ast.BinOp(left=left, op=ast.Mult(), right=right) if unknown not in names_in(right):
            return _scaled(left, unknown, lambda part: right if _is_number(part, 1) else ast.BinOp(part, ast.Mult(), right))
        case ast.BinOp(left=left, op=ast.Mult(), right=right) if unknown not in names_in(left):
            return _scaled(right, unknown, lambda part: left if _is_number(part, 1) else ast.BinOp(left, ast.Mult(), part))
        case ast.BinOp(left=left, op=ast.Div(), right=right) if unknown not in names_in(right):
            return _scaled(left, unknown, lambda part: ast.BinOp(part, ast.Div(), right))
    return None


def _scaled(node: ast.expr, unknown: str, scale: Callable[[ast.expr], ast.expr]) -> tuple[list[Term], list[Term]] | None:
    inner = _terms(node, unknown)
    return inner and ([(sign, scale(part)) for sign, part in inner[0]], [(sign, scale(part)) for sign, part in inner[1]])


def _negated(terms: list[Term]) -> list[Term]:
    return [(-sign, part) for sign, part in terms]


def _is_number(node: ast.expr, number: int) -> bool:
    return isinstance(node, ast.Constant) and node.value == number


def _sum(terms: list[Term]) -> ast.expr:
    """The terms as one expression, positive ones first."""
    (sign, total), *rest = sorted(terms, key=lambda term: -term[0])
    if sign < 0:
        total = ast.UnaryOp(ast.USub(), total)
    for sign, part in rest:
        total = ast.BinOp(total, ast.Add() if sign > 0 else ast.Sub(), part)
    return total
