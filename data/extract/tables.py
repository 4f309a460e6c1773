"""Converts MathML tables to TeX: chooses the environment by the table's columns, and places the row labels."""

from __future__ import annotations

import re

_BRACES, _SPECIAL = re.compile(r"[{}\\]"), re.compile(r"[#$%&_]")


def in_columns(rows: list[list[str]], alignment: list[str]) -> tuple[str, list[str]]:
    """(environment, lines) of a table's cells.

    Columns that alternate between right and left alignment (`align`), or are right, center and left (`eqnarray`), are equations below each
    other: `aligned`, with one `&` where the sides meet. Any other table is a `matrix`. As in MathML, the last given alignment applies to
    all further columns.
    """
    width = max(map(len, rows), default=0)
    columns = [alignment[min(place, len(alignment) - 1)][:1] for place in range(width)] if alignment else []
    if width > 1 and columns == (["r", "c", "l"] * width)[:width]:
        return "aligned", [_line(_merged(row)) for row in rows]
    if width > 1 and columns == (["r", "l"] * width)[:width]:
        return "aligned", [_line(row) for row in rows]
    return "matrix", [" & ".join(row) for row in rows]


def _merged(row: list[str]) -> list[str]:
    """Merge a row of three columns into two: the relation joins the side after it."""
    pairs = []
    for place in range(0, len(row), 3):
        pairs += [row[place], " ".join(filter(None, row[place + 1 : place + 3]))][: len(row) - place]
    return pairs


def _line(row: list[str]) -> str:
    return " & ".join(row).strip()


def labelled(environment: str, lines: list[str], labels: list[str]) -> str:
    r"""The table with its rows' labels as `\tag{..}`.

    One equation with a label needs no table, and a single label goes after the table. Several labels go in their rows. Of the environments
    that allow it, `align*` and `gather*` do not number rows themselves.
    """
    tags = [_tag(label) for label in labels]
    first, *others = list(filter(None, tags)) or [""]
    if not first:
        return _in(environment, lines)
    if not others:
        return f"{lines[0] if len(lines) == 1 and '&' not in lines[0] else _in(environment, lines)} {first}"
    tagged = [f"{line} {tag}".strip() for line, tag in zip(lines, tags, strict=True)]
    return _in("align*" if any("&" in line for line in lines) else "gather*", tagged)


def _in(environment: str, lines: list[str]) -> str:
    return rf"\begin{{{environment}}} " + r" \\ ".join(lines) + rf" \end{{{environment}}}"


def _tag(label: str) -> str:
    """`(1)` -> `\\tag{1}`: TeX writes the brackets itself."""
    inner = re.fullmatch(r"[(（]\s*(.*?)\s*[)）]", label)
    text = _SPECIAL.sub(r"\\\g<0>", _BRACES.sub("", inner[1] if inner else label))
    return rf"\tag{{{text}}}" if text else ""
