"""The single mistakes that can be planted in a module."""

from __future__ import annotations

import ast
import difflib
from dataclasses import dataclass

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

OPERATORS = (
    *(
        f"ReplaceBinaryOperator_{pair}"
        for pair in ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul", "Mod_FloorDiv", "Pow_Mul", "BitAnd_BitOr", "BitOr_BitAnd")
    ),
    *(
        f"ReplaceComparisonOperator_{pair}"
        for pair in (
            "Eq_NotEq",
            "NotEq_Eq",
            "Lt_LtE",
            "Lt_Gt",
            "LtE_Lt",
            "LtE_Gt",
            "Gt_GtE",
            "Gt_Lt",
            "GtE_Gt",
            "GtE_Lt",
            "Is_IsNot",
            "IsNot_Is",
        )
    ),
    "ReplaceUnaryOperator_Delete_Not",
    "ReplaceUnaryOperator_Delete_USub",
    "ReplaceAndWithOr",
    "ReplaceOrWithAnd",
    "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "AddNot",
    "NumberReplacer",
    "ExceptionReplacer",
    "ZeroIterationForLoop",
)
"""One or two replacements for each operator of Python: more of them would mostly be noticed by the same tests."""


@dataclass(frozen=True)
class Mutant:
    """A module with one mistake. `name` tells it from others of the same source."""

    name: str
    line: int
    before: str
    after: str
    source: str


def mutants_of(source: str) -> list[Mutant]:
    """Return all mutants of a module's source, in the order of its lines.

    Changes to type annotations, to `strict=` of `zip`, and to `frozen=` of data classes are left out.
    """
    tree, same = get_ast(source), ast.dump(ast.parse(source))
    skipped = _annotated(source) | _guards(source)
    found = []
    for name in OPERATORS:
        operator = get_operator(f"core/{name}")()
        positions = [position for node in ast_nodes(tree) for position in operator.mutation_positions(node)]
        for occurrence, (start, _) in enumerate(positions):
            changed = mutate_code(source, operator, occurrence)
            if changed is None or start in skipped or not _compiles(changed) or ast.dump(ast.parse(changed)) == same:
                continue
            before, after = _changed_lines(source, changed)
            found.append(Mutant(f"{name}-{occurrence}", start[0], before, after, changed))
    return sorted(found, key=lambda mutant: mutant.line)


def _annotated(source: str) -> set[tuple[int, int]]:
    """Positions, as (line, column), inside type annotations: none of them is evaluated."""
    places = set()
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        annotation = getattr(node, "annotation", None) or getattr(node, "returns", None)
        if isinstance(annotation, ast.expr) and annotation.end_lineno is not None:
            for line in range(annotation.lineno, annotation.end_lineno + 1):
                first = annotation.col_offset if line == annotation.lineno else 0
                last = annotation.end_col_offset if line == annotation.end_lineno else len(lines[line - 1])
                places |= {(line, column) for column in range(first, (last or 0) + 1)}
    return places


def _guards(source: str) -> set[tuple[int, int]]:
    """Positions of the values of `strict=` and `frozen=`, which only refuse what right code does not do."""
    keywords = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.keyword))
    return {(word.value.lineno, word.value.col_offset) for word in keywords if word.arg in ("strict", "frozen")}


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def _changed_lines(before: str, after: str) -> tuple[str, str]:
    """The lines that differ."""
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm=""))[3:]
    return (
        " ".join(line[1:].strip() for line in lines if line.startswith("-")),
        " ".join(line[1:].strip() for line in lines if line.startswith("+")),
    )
