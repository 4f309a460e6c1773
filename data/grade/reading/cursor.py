"""A position in the tokens of an answer, and the state that the parts of the parser share."""

from __future__ import annotations

from abc import ABC, abstractmethod

from mathquarry.data.grade.reading.tokens import Token, Unreadable
from mathquarry.data.grade.reading.tree import Tree

MAX_DEPTH = 40
"""Deepest nesting that is parsed."""


class Cursor(ABC):
    """A position in the tokens, its depth and context, and the last unit read.

    The layers above it are `Environments`, `Atoms`, `Terms` and `Parser`. The methods that a lower layer needs from a higher one are
    declared here.
    """

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens, self.place = tokens, 0
        self.depth = self.bars = self.angles = self.builders = 0
        self.unit = ""
        self.head = 0
        """The place of the first token of the current item, after its label."""

    @property
    def token(self) -> Token:
        """The current token."""
        return self.tokens[self.place]

    def next(self) -> Token:
        """Return the current token and advance. Raises `Unreadable` at the end."""
        token = self.tokens[self.place]
        if token.kind == "end":
            raise Unreadable("it ends too early")
        self.place += 1
        return token

    def peek(self, ahead: int = 1) -> Token:
        """A later token, or the end token."""
        return self.tokens[min(self.place + ahead, len(self.tokens) - 1)]

    def at(self, *texts: str) -> bool:
        """Whether the current token is one of these symbols or commands."""
        token = self.tokens[self.place]
        return (token.text or "end") in texts and token.kind in ("symbol", "command", "end")

    def expect(self, *texts: str) -> str:
        """Consume one of these symbols, or raise `Unreadable`."""
        if not self.at(*texts):
            raise Unreadable(f"{texts[0]!r} is missing")
        return self.next().text

    def braced(self) -> list[Token]:
        """The tokens of a group, without its braces."""
        self.expect("{")
        start, depth = self.place, 1
        while depth:
            token = self.next()
            if token.kind == "end":
                raise Unreadable("a brace is not closed")
            depth += (token.text == "{" and token.kind == "symbol") - (token.text == "}" and token.kind == "symbol")
        return self.tokens[start : self.place - 1]

    def defined_call(self, name: str) -> Tree | None:
        r"""A letter applied to something and followed by an equals sign: `V(t) = ...`, `P(X = 2) = ...`; None for a product."""
        end, depth = self.place, 0
        while self.tokens[end].kind != "end":
            depth += (self.tokens[end].text == "(") - (self.tokens[end].text == ")")
            end += 1
            if not depth:
                break
        inner = self.tokens[self.place + 1 : end - 1]
        if not self.at("(") or not inner or name in "xyzie" or self.tokens[end].text not in ("=", "approx"):
            return None
        if len(inner) == 1 and inner[0].kind in ("letter", "number"):
            argument = Tree("number", number=inner[0].number) if inner[0].number else Tree("symbol", text=inner[0].text)
            self.place = end
            return Tree("call", (argument,), name)
        if name not in "PED":  # a probability, a mean or a variance
            return None
        self.place = end
        return Tree("call", (), f"{name}({' '.join(token.text for token in inner)})")

    def words_in_brackets(self) -> list[str] | None:
        """The words if a bracket with nothing but words begins here; None otherwise."""
        end = self.place + 1
        while self.peek(end - self.place).kind == "text":
            end += 1
        words = [token.text for token in self.tokens[self.place + 1 : end]]
        return words if self.at("(") and words and self.tokens[end].text == ")" else None

    def argument_tokens(self, several: bool = False) -> list[Token]:
        """The tokens of a group, or the single token in its place."""
        if self.at("{"):
            return self.braced()
        found = [self.next()]
        if found[0].kind == "end":
            raise Unreadable("an argument is missing")
        while several and self.token.kind in ("letter", "name"):
            found.append(self.next())
        return found

    @abstractmethod
    def items(self, ends: tuple[str, ...]) -> Tree:
        """A list up to one of `ends`."""

    @abstractmethod
    def item(self) -> Tree:
        """A relation, an expression with its unit, or words."""

    @abstractmethod
    def sum(self) -> Tree:
        """An expression."""

    @abstractmethod
    def signed(self) -> Tree:
        """A term with its signs."""

    @abstractmethod
    def factor(self) -> Tree:
        """An atom with its exponent, index and marks."""

    @abstractmethod
    def starts_factor(self) -> bool:
        """Whether a factor begins here."""
