"""An answer as a tree: an operator with parts. Nothing is evaluated here.

Operators and their parts:

- `number`, `symbol`, `text`, `infinity`, `empty`, `reals`, `dots`: leaves
- `+` (terms), `*` (factors), `/` (two), `^` (two), `-` (one), `±` (one; its sign is the same everywhere in an answer)
- `root` (radicand, index), `call` (name in `text`, arguments), `abs`, `!` (one)
- `tuple` (brackets in `text`), `set`, `list` (separators in `text`), `matrix` (rows, each a `row` of cells), `builder` (condition)
- `relation` (operands; operators in `text`, separated by spaces), `union`, `cut`, `without`, `ratio` (parts)
- `unit` (one; the unit's name in `text`)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from mathquarry.data.grade.reading.tokens import Number, Unreadable

RELATIONS = {
    "=": "=",
    "<": "<",
    ">": ">",
    "le": "<=",
    "ge": ">=",
    "ne": "!=",
    "approx": "~",
    "in": "in",
    "equiv": "==",
}
"""Relations by token."""


@dataclass(frozen=True, slots=True)
class Tree:
    """One node. Two equal trees are the same answer."""

    op: str
    parts: tuple[Tree, ...] = ()
    text: str = ""
    number: Number | None = None

    @property
    def is_plain_number(self) -> bool:
        """Whether it is a number in digits, or a fraction or the opposite of such."""
        return self.op == "number" or (self.op in ("/", "-") and all(part.op == "number" for part in self.parts))

    def walk(self) -> Iterator[Tree]:
        """This node and all below it."""
        yield self
        for part in self.parts:
            yield from part.walk()

    def map(self, change: Callable[[Tree], Tree | None]) -> Tree:
        """The tree with each node replaced by `change(node)` where that is not None."""
        found = change(self)
        if found is not None:
            return found
        return replace(self, parts=tuple(part.map(change) for part in self.parts)) if self.parts else self


class NeedsAlgebra(Unreadable):
    """Integrals, sums and limits: only a computer algebra system can read these."""


def number(value: int | Fraction) -> Tree:
    """The leaf of an exact number."""
    return Tree("number", number=Number(Fraction(value)))


def product(left: Tree, right: Tree) -> Tree:
    """The product of two trees; the right one is appended to a product on the left."""
    return Tree("*", (*left.parts, right) if left.op == "*" else (left, right))
