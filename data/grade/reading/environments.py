"""Environments of an answer: matrices, and lines of cases or of aligned equations."""

from __future__ import annotations

from mathquarry.data.grade.reading.cursor import Cursor
from mathquarry.data.grade.reading.tokens import Unreadable
from mathquarry.data.grade.reading.tree import Tree

_MATRICES = frozenset(["matrix", "pmatrix", "bmatrix", "Bmatrix", "vmatrix", "Vmatrix", "smallmatrix", "array"])

_LINES = frozenset(["cases", "aligned", "align", "align*", "gathered", "split", "rcases", "eqnarray"])


class Environments(Cursor):
    r"""Reads the content between `\begin` and `\end`."""

    def environment(self) -> Tree:
        """A matrix, or lines as a list."""
        name = "".join(token.text for token in self.braced())
        if name not in _MATRICES and name not in _LINES:
            raise Unreadable(f"environment {name}")
        if name == "array" and self.at("{"):
            self.braced()
        rows: list[tuple[Tree, ...]] = []
        cells: list[Tree] = []
        while not self.at("end"):
            if self.at("hline"):
                self.next()
            elif self.at("&"):
                self.next()
                if name in _MATRICES and (self.at("&", "\\", "end")):
                    raise Unreadable("an empty cell")
            elif self.at("\\"):
                self.next()
                if cells:
                    rows.append(tuple(cells))
                cells = []
            elif self.token.kind == "separator" and name in _LINES:
                self.next()
            elif self.token.kind == "end":
                raise Unreadable("an environment is not closed")
            else:
                cells.append(self.item())
        self.next()
        self.braced()
        if cells:
            rows.append(tuple(cells))
        if name in _LINES:
            if any(len(row) > 1 for row in rows):
                raise Unreadable("cases with conditions")
            lines = tuple(row[0] for row in rows)
            return lines[0] if len(lines) == 1 else Tree("list", lines, " ".join(["and"] * (len(lines) - 1)))
        if len({len(row) for row in rows}) != 1:
            raise Unreadable("rows of several lengths")
        matrix = Tree("matrix", tuple(Tree("row", row) for row in rows))
        return Tree("call", (matrix,), "det") if name == "vmatrix" else matrix
