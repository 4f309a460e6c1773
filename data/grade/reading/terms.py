"""The middle layer of the parser: sums, products, mixed numbers, exponents, degrees and percent."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction

from mathquarry.data.grade.reading.atoms import Atoms
from mathquarry.data.grade.reading.tokens import Number, Unreadable
from mathquarry.data.grade.reading.tree import RELATIONS, Tree, number, product
from mathquarry.data.grade.reading.words import FACTORS, NUMBER_WORDS


class Terms(Atoms):
    """Reads one expression."""

    def sum(self) -> Tree:
        """Terms with their signs."""
        terms = [self.signed()]
        while self.at("+", "-", "pm", "mp"):
            terms.append(self.signed())
        return Tree("+", tuple(terms)) if len(terms) > 1 else terms[0]

    def signed(self) -> Tree:
        """A term with all signs before it."""
        minus = both = False
        while self.at("+", "-", "pm", "mp"):
            sign = self.next().text
            minus ^= sign in ("-", "mp")
            both |= sign in ("pm", "mp")
        tree = self.term()
        tree = Tree("±", (tree,)) if both else tree
        return Tree("-", (tree,)) if minus else tree

    def term(self) -> Tree:
        """Factors that are adjacent, or separated by multiplication and division signs."""
        tree = self.mixed() or self.factor()
        while True:
            if self.at("*"):
                self.next()
                tree = product(tree, self.signed() if self.at("-", "+", "pm") else self.factor())
            elif self.at("/") and self.peek().kind != "text":
                self.next()
                tree = Tree("/", (tree, self.signed() if self.at("-") else self.factor()))
            elif self.at("bmod", "mod"):
                self.next()
                tree = Tree("call", (tree, self.factor()), "mod")
            elif self.token.kind == "text" and self.token.text.lower() in FACTORS:
                tree = product(tree, number(FACTORS[self.next().text.lower()]))
            elif self.starts_factor():
                before = self.tokens[self.place - 1]
                if self.token.kind == "number" and before.kind == "number":
                    raise Unreadable("two numbers side by side")
                tree = product(tree, self.factor())
            else:
                return tree

    def mixed(self) -> Tree | None:
        r"""A mixed number: `3 1/2`, `3\frac12`, and `3(1/2)` only with the double brackets of Math23K, `1((4)/(15))`."""
        whole = self.token
        if whole.kind != "number" or not whole.text.isdigit() or whole.number is None:
            return None
        if self.peek().kind != "number" and self.peek().text not in ("frac", "("):
            return None
        ahead = [self.peek(step) for step in range(1, 11)]
        texts = [token.text for token in ahead]
        if ahead[0].kind == "number" and texts[1] == "/" and ahead[2].kind == "number" and ahead[0].spaced:
            if not (texts[0].isdigit() and texts[2].isdigit()):
                return None
            over, under, length = texts[0], texts[2], 4
        elif texts[0] == "frac":
            match = re.compile(r"frac (?:\{ )?(\d+) (?:\} )?(?:\{ )?(?:(\d+) ?)?").match(" ".join(texts))
            if match is None:
                return None
            self.next()
            fraction = self.factor()
            if fraction.op != "/" or any(part.op != "number" for part in fraction.parts):
                return product(Tree("number", text=whole.text, number=whole.number), fraction)
            return Tree("+", (Tree("number", number=whole.number), fraction), "mixed")
        elif texts[:2] == ["(", "("] and texts[3:6] == [")", "/", "("] and texts[7:9] == [")", ")"]:
            over, under, length = texts[2], texts[6], 10
        else:
            return None
        if int(under) == 0:
            raise Unreadable("division by zero")
        self.place += length
        value = whole.number.value + Fraction(int(over), int(under))
        return Tree("number", number=Number(value))

    def starts_factor(self) -> bool:
        """Whether a factor begins here."""
        token = self.token
        if token.kind == "letter" and token.text in "CF" and self.unit == "degree":
            return False  # Celsius, Fahrenheit
        if token.kind in ("number", "letter", "name"):
            return True
        if token.kind == "symbol":
            if token.text == "|":
                return not self.bars and not self.builders
            if self.words_in_brackets():
                return False
            return token.text in ("(", "[", "{", "\\{")
        return token.kind == "command" and token.text not in RELATIONS and token.text not in (
            "\\", "end", "cup", "cap", "setminus", "pm", "mp", "rangle", "rfloor", "rceil", "choose", "over", "circ",
            "bmod", "mod", "pmod", "not",
            "to", "implies", "Rightarrow", "rightarrow", "therefore", "because", "|",
        )  # fmt: skip

    def factor(self) -> Tree:
        """An atom with exponents, factorials, percent, degrees and indices."""
        tree = self.atom()
        while True:
            if self.at("^"):
                if self.peek().text == "circ" or (self.peek().text == "{" and self.peek(2).text == "circ"):
                    self.next()
                    self.argument_tokens()
                    tree = self.degrees(tree)
                    continue
                if chosen := self.chosen(tree, "^", "_"):
                    tree = chosen
                    continue
                self.next()
                if self.at("'") or (self.at("{") and self.peek().text == "'"):
                    tree = self.primed(tree)
                    continue
                tree = Tree("^", (tree, self.argument(whole=True)))
            elif self.at("circ"):
                self.next()
                tree = self.degrees(tree)
            elif self.at("!"):
                self.next()
                tree = Tree("!", (tree,))
            elif self.at("%"):
                self.next()
                if self.angles or self.starts_factor():
                    tree = Tree("/", (tree, number(100)))
                else:
                    self.unit = "%"
            elif self.at("'"):
                tree = self.primed(tree)
            elif self.at("_"):
                if chosen := self.chosen(tree, "_", "^"):
                    tree = chosen
                    continue
                self.next()
                tree = self.subscript(tree)
            else:
                return tree

    def primed(self, tree: Tree) -> Tree:
        """A letter with its primes, which are part of its name."""
        marks = len(self.argument_tokens())
        return replace(tree, text=tree.text + marks * "'") if tree.op == "symbol" else Tree("call", (tree,), marks * "'")

    def degrees(self, tree: Tree) -> Tree:
        """An angle: a multiple of pi inside a function, elsewhere a number with the unit."""
        if self.angles:
            return product(Tree("/", (tree, number(180))), Tree("symbol", text="pi"))
        self.unit = "degree"
        return tree

    def chosen(self, tree: Tree, first: str, second: str) -> Tree | None:
        """`C_5^2` and `A_5^2`, in either order: combinations and arrangements; None for every other index."""
        if tree.op != "symbol" or tree.text not in ("C", "A", "P"):
            return None
        start = self.place
        self.next()
        one = self.argument(whole=True) if not self.at("'", "circ") else None
        if one is None or not self.at(second) or self.peek().text in ("'", "circ"):
            self.place = start
            return None
        self.next()
        other = self.argument(whole=True)
        of, taken = (one, other) if first == "_" else (other, one)
        values = [part.number.value for part in (of, taken) if part.number]
        if any(part.op not in ("number", "symbol", "+") for part in (of, taken)) or (len(values) == 2 and values[0] < values[1]):
            self.place = start
            return None
        if tree.text == "C":
            return Tree("call", (of, taken), "binom")
        return Tree("/", (Tree("!", (of,)), Tree("!", (Tree("+", (of, Tree("-", (taken,)))),))))

    def subscript(self, tree: Tree) -> Tree:
        """The index of a letter, which is part of its name, or the base of a number."""
        name = " ".join(token.text for token in self.argument_tokens())
        name = str(NUMBER_WORDS.get(name.lower(), name))
        if (tree.op == "number" and name.isdigit()) or (
            tree.op == "symbol" and tree.text.isupper() and len(tree.text) > 1 and name.isdigit()
        ):
            self.unit = f"base {name}"
            return tree
        if tree.op == "symbol":
            return replace(tree, text=f"{tree.text}_{name}")
        return Tree("call", (tree,), f"_{name}")
