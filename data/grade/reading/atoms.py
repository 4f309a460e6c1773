"""The innermost layer of the parser: numbers, letters, brackets, commands, functions, environments."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from mathquarry.data.grade.reading.cursor import MAX_DEPTH
from mathquarry.data.grade.reading.environments import Environments
from mathquarry.data.grade.reading.tokens import Number, Token, Unreadable
from mathquarry.data.grade.reading.tree import NeedsAlgebra, Tree, number, product
from mathquarry.data.grade.reading.words import NUMBER_WORDS

_CLOSING = {"(": (")", "]"), "[": ("]", ")"), "langle": ("rangle",), "\\{": ("\\}",), "{": ("}",)}

_TRIGONOMETRIC = frozenset(
    [
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "sinh",
        "cosh",
        "tanh",
        "coth",
        "arcsin",
        "arccos",
        "arctan",
        "arccot",
        "ln",
        "log",
        "lg",
        "exp",
        "cis",
    ]
)

_CALLS = _TRIGONOMETRIC | frozenset(["max", "min", "gcd", "lcm", "det", "deg", "dim", "Re", "Im", "arg", "Pr"])

_MARKS = frozenset(
    [
        "overline",
        "bar",
        "angle",
        "triangle",
        "overrightarrow",
        "overleftrightarrow",
        "odot",
        "widehat",
        "parallelogram",
        "square",
        "Box",
        "measuredangle",
    ]
)

_OPAQUE = frozenset(["int", "iint", "oint", "sum", "prod", "lim", "limsup", "liminf", "partial", "nabla"])


class Atoms(Environments):
    """Reads one atom of any kind."""

    def atom(self) -> Tree:
        """The next atom: a number, a letter, a bracket, a command."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("nested too deep")
        token = self.next()
        tree = self.read_atom(token)
        self.depth -= 1
        return tree

    def read_atom(self, token: Token) -> Tree:
        """The atom that starts with a token."""
        if token.kind == "number":
            return Tree("number", number=token.number)
        if token.kind == "name":
            return Tree("symbol", text=token.text)
        if token.kind == "letter":
            if self.place == self.head + 1 and (defined := self.defined_call(token.text)):
                return defined
            if token.text == "C" and self.at("(") and self.peek().kind == self.peek(3).kind == "number" and self.peek(2).text == ",":
                return replace(self.call("binom"), text="binom")
            if token.text in "fgh" and self.at("(", "'", "^") and self.is_call():
                return self.call(token.text)
            return Tree("symbol", text=token.text)
        if token.kind == "text":
            word = token.text.lower().strip(".")
            if word in NUMBER_WORDS:
                return number(NUMBER_WORDS[word])
            raise Unreadable("words in an expression")
        if token.kind == "symbol":
            return self.bracketed(token.text)
        if token.kind != "command":
            raise Unreadable("an expression is missing")
        return self.command(token.text)

    def is_call(self) -> bool:
        """Whether a letter such as f is applied to something in brackets: `f(x)`, `f'(2)`, `f^{-1}(x)`."""
        place = self.place
        while self.tokens[place].text == "'":
            place += 1
        if self.tokens[place].text == "^" and self.tokens[place + 1].text in ("{", "-"):
            return self.tokens[place + 2].text in ("-", "1") and any(token.text == "(" for token in self.tokens[place : place + 7])
        return self.tokens[place].text == "("

    def call(self, name: str) -> Tree:
        """The arguments of a function named by a letter."""
        while self.at("'"):
            self.next()
            name += "'"
        if self.at("^"):
            self.next()
            name += "^" + " ".join(token.text for token in self.argument_tokens())
        self.expect("(")
        inner = self.items((")",))
        self.expect(")")
        return Tree("call", inner.parts if inner.op == "list" else (inner,), name)

    def bracketed(self, opening: str) -> Tree:
        """The content of brackets or bars, or the amount after a currency sign."""
        if opening in ("$", "€", "£", "¥"):
            self.unit = {"$": "dollar", "€": "euro", "£": "£", "¥": "yuan"}[opening]
            return self.factor() if not self.at("-") else self.signed()
        if opening == "|":
            self.bars += 1
            inner = self.sum()
            self.expect("|")
            self.bars -= 1
            return Tree("abs", (inner,))
        if opening not in _CLOSING:
            raise Unreadable(f"{opening!r} is out of place")
        bars, self.bars = self.bars, 0
        tree = self.group(opening)
        self.bars = bars
        return tree

    def group(self, opening: str) -> Tree:
        """The content of brackets: a group, a tuple, a set, a set builder."""
        if opening == "{":
            if self.at("}"):
                self.next()
                return Tree("set") if self.token.kind == "end" else self.factor()
            place = self.place
            inner = self.items(("}", "choose", "over"))
            if self.at("choose", "over"):
                name = self.next().text
                under = self.items(("}",))
                self.expect("}")
                return Tree("/", (inner, under)) if name == "over" else Tree("call", (inner, under), "binom")
            self.expect("}")
            if inner.op == "list":
                return Tree("set", inner.parts)
            if inner.op == "unit":
                self.unit = inner.text
                return inner.parts[0]
            if inner.op == "text" and self.tokens[place].kind == "text":
                raise Unreadable("words in an expression")
            return inner
        if opening == "\\{":
            self.builders += 1
            inner = self.items(("\\}", "|", ":"))
            self.builders -= 1
            if self.at("|", ":"):
                self.next()
                condition = self.items(("\\}",))
                self.expect("\\}")
                return Tree("builder", (inner, condition))
            self.expect("\\}")
            return Tree("set", inner.parts if inner.op == "list" else (inner,))
        inner = self.items(_CLOSING[opening])
        closing = self.next().text
        if inner.op == "list" and not inner.parts:
            raise Unreadable("empty brackets")
        if inner.op == "list":
            return Tree("tuple", inner.parts, "()" if opening == "langle" else opening + closing)
        if inner.op == "matrix" or (opening, closing) in (("(", ")"), ("[", "]"), ("langle", "rangle")):
            if inner.op == "unit":
                self.unit = inner.text
                return inner.parts[0]
            if inner.op in ("+", "±") and inner.text:
                return replace(inner, text="")
            return inner
        raise Unreadable("brackets of two kinds around one value")

    def command(self, name: str) -> Tree:
        """The meaning of a command with its arguments."""
        if name in _OPAQUE:
            raise NeedsAlgebra(f"\\{name}")
        if name == "frac":
            return Tree("/", (self.argument(), self.argument()))
        if name == "sqrt":
            index = number(2)
            if self.at("["):
                self.next()
                index = self.items(("]",))
                self.expect("]")
            return Tree("root", (self.argument(whole=True), index))
        if name == "binom":
            return Tree("call", (self.argument(), self.argument()), "binom")
        if name in _CALLS:
            return self.function(name)
        if name == "begin":
            return self.environment()
        if name == "langle":
            return self.group("langle")
        if name in ("lfloor", "lceil", "|", "lVert", "Vert"):
            inner = self.sum()
            self.expect({"lfloor": "rfloor", "lceil": "rceil", "|": "|", "lVert": "rVert", "Vert": "Vert"}[name])
            return Tree("call", (inner,), name[1:] if name.startswith("l") and name != "lVert" else "norm")
        if name == "infty":
            return Tree("infinity")
        if name == "emptyset":
            return Tree("set")
        if name == "ldots":
            return Tree("symbol", text="...")
        if name in ("mathbb", "Bbb"):
            letters = "".join(token.text for token in self.argument_tokens())
            return Tree("reals") if letters == "R" else Tree("symbol", text=f"mathbb {letters}")
        if name == "R":
            return Tree("reals")
        if name in _MARKS:
            if (name in ("overline", "bar") and self.at("{")) or name not in ("overline", "bar"):
                tokens = self.argument_tokens(several=True)
            else:
                tokens = [self.next()]
            return Tree("symbol", text=f"{name} " + "".join(token.text for token in tokens))
        if name in ("dot", "ddot"):
            return Tree("symbol", text=f"{name} " + "".join(token.text for token in self.argument_tokens()))
        if name.isalpha():
            return Tree("symbol", text=name)
        raise Unreadable(f"\\{name}")

    def function(self, name: str) -> Tree:
        """A named function with its power and its arguments."""
        power = None
        if name == "log" and self.at("_"):
            self.next()
            base = self.argument(whole=True)
            if self.at("^"):
                self.next()
                power = self.argument(whole=True)
            tree = Tree("call", (self.applied(name), base), "log")
            return Tree("^", (tree, power)) if power else tree
        if self.at("_"):
            raise Unreadable("a function with an index")
        if self.at("^"):
            self.next()
            power = self.argument(whole=True)
            if power == Tree("-", (number(1),)) and name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh"):
                name, power = "arc" + name, None
        argument = self.applied(name)
        parts = argument.parts if argument.op in ("list", "tuple") else (argument,)
        tree = Tree("call", parts, name)
        return Tree("^", (tree, power)) if power else tree

    def applied(self, name: str) -> Tree:
        """The argument of a function: its brackets, or the factors up to the next function."""
        self.angles += name in _TRIGONOMETRIC
        if self.at("(", "["):
            opening = self.next().text
            tree = self.items(_CLOSING[opening])
            self.next()
            while self.at("!"):
                self.next()
                tree = Tree("!", (tree,))
        elif self.at("-"):
            tree = self.signed()
        else:
            tree = self.factor()
            while (self.starts_factor() and not self.at("(", *_CALLS)) or (self.at("/") and self.peek().kind in ("number", "letter")):
                if self.at("/"):
                    self.next()
                    tree = Tree("/", (tree, self.factor()))
                else:
                    tree = product(tree, self.factor())
        self.angles -= name in _TRIGONOMETRIC
        return tree

    def argument(self, whole: bool = False) -> Tree:
        """The argument of a command: a group, or one token. Of several digits only the first, unless `whole`."""
        token = self.token
        if token.kind == "number" and not whole and token.text.isdigit() and len(token.text) > 1:
            rest = token.text[1:]
            self.tokens = [*self.tokens]
            self.tokens[self.place] = Token("number", rest, Number(Fraction(int(rest))))
            return number(int(token.text[0]))
        if self.at("-", "+"):
            sign = self.next().text
            inner = self.argument(whole=True)
            return Tree("-", (inner,)) if sign == "-" else inner
        outer, self.unit = self.unit, ""
        tree = self.atom()
        if self.unit and not outer:
            outer = self.unit
        self.unit = outer
        return tree
