"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mathquarry.data.report.page.scores import read_lenient_scores, read_scores


def accuracy_table(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Return plain text with two lines per policy: greedy, Pass@1, Pass@K and Maj@K with standard errors, in percent, first with the strict
    reading of answers, then with the lenient one.

    `rows` are (label, evaluate summary). Raises `MathQuarryError` if a summary has no scores.
    """
    scores = []
    for label, summary in rows:
        scores.append((label, read_scores(summary)))
        if lenient := read_lenient_scores(summary):
            scores.append(("  lenient reading", lenient))
    names = list(dict.fromkeys(name for _, score in scores for name in score.columns()))
    table = [["", "questions", *names]]
    for label, score in scores:
        columns = score.columns()
        questions = "–" if score.questions is None else f"{score.questions:,}"
        table.append([label, questions, *(str(columns.get(name, "–")) for name in names)])
    return "\n".join(aligned(table))


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Align rows of cells as lines: the first column left, the others right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width) for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    ]
