"""The syntax of an answer: a recursive descent parser from tokens to a tree. Nothing is evaluated here.

A tree is an operator with parts. Operators and their parts:

- `number`, `symbol`, `text`, `infinity`, `empty`, `reals`, `dots`: leaves
- `+` (terms), `*` (factors), `/` (two), `^` (two), `-` (one), `±` (one; its sign is the same everywhere in an answer)
- `root` (radicand, index), `call` (name in `text`, arguments), `abs`, `!` (one)
- `tuple` (brackets in `text`), `set`, `list` (separators in `text`), `matrix` (rows, each a `row` of cells), `builder` (condition)
- `relation` (operands; operators in `text`, separated by spaces), `union`, `cut`, `without`, `ratio` (parts)
- `unit` (one; the unit's name in `text`)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from data.grade.lexer import Number, Token, Unreadable
from data.grade.words import FACTORS, NUMBER_WORDS, UNITS, unit_name

MAX_DEPTH = 40
"""Nesting of an answer that is read."""

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
_MATRICES = frozenset(["matrix", "pmatrix", "bmatrix", "Bmatrix", "vmatrix", "Vmatrix", "smallmatrix", "array"])
_LINES = frozenset(["cases", "aligned", "align", "align*", "gathered", "split", "rcases", "eqnarray"])


@dataclass(frozen=True, slots=True)
class Tree:
    """One node. `spaced` trees of a list's parts do not matter; two equal trees are the same answer."""

    op: str
    parts: tuple[Tree, ...] = ()
    text: str = ""
    number: Number | None = None

    def walk(self) -> Iterator[Tree]:
        """This node and all below it."""
        yield self
        for part in self.parts:
            yield from part.walk()

    def map(self, change: Callable[[Tree], Tree | None]) -> Tree:
        """The tree with `change`'s result wherever it is not None."""
        found = change(self)
        if found is not None:
            return found
        return replace(self, parts=tuple(part.map(change) for part in self.parts)) if self.parts else self


class NeedsAlgebra(Unreadable):
    """Integrals, sums and limits: only a computer algebra system reads these."""


def number(value: int | Fraction) -> Tree:
    """The leaf of an exact number."""
    return Tree("number", number=Number(Fraction(value)))


def parse(tokens: list[Token]) -> Tree:
    """The tree of a whole answer. Raises `Unreadable` where the notation is unknown or nested too deep."""
    parser = _Parser(tokens)
    tree = parser.items(("end",))
    if parser.token.kind != "end":
        raise Unreadable(f"{parser.token.text!r} is out of place")
    return tree


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self.tokens, self.place = tokens, 0
        self.depth = self.bars = self.angles = self.builders = 0
        self.unit = ""

    @property
    def token(self) -> Token:
        return self.tokens[self.place]

    def next(self) -> Token:
        token = self.tokens[self.place]
        if token.kind == "end":
            raise Unreadable("it ends too early")
        self.place += 1
        return token

    def peek(self, ahead: int = 1) -> Token:
        return self.tokens[min(self.place + ahead, len(self.tokens) - 1)]

    def at(self, *texts: str) -> bool:
        return self.token.kind in ("symbol", "command", "end") and (self.token.text or "end") in texts

    def expect(self, *texts: str) -> str:
        if not self.at(*texts):
            raise Unreadable(f"{texts[0]!r} is missing")
        return self.next().text

    # lists

    def items(self, ends: tuple[str, ...]) -> Tree:
        """Items up to one of `ends`; a single one is no list."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("nested too deep")
        parts: list[Tree] = []
        joints: list[str] = []
        while not self.at(*ends):
            if self.token.kind == "separator" or self.at("\\"):
                joint = self.next()
                if parts and len(joints) < len(parts):
                    joints.append("," if joint.text == "\\" else joint.text)
                elif parts and joint.text in ("and", "or"):
                    joints[-1] = joint.text
                continue
            if self.token.kind == "end":
                raise Unreadable("a bracket is not closed")
            if parts and len(joints) < len(parts):
                raise Unreadable(f"{self.token.text!r} is out of place")
            parts.append(self.item())
        self.depth -= 1
        if len(parts) == 1:
            return parts[0]
        return Tree("list", tuple(parts), " ".join(joints[: max(0, len(parts) - 1)]))

    def item(self) -> Tree:
        """A relation, an expression with its unit, or words."""
        outer, self.unit = self.unit, ""
        start = self.place
        self.label()
        if self.token.kind == "text" and not self.at_number_word():
            tree = self.words(start)
        else:
            tree = self.relation()
        tree = Tree("unit", (tree,), self.unit) if self.unit else tree
        self.unit = outer
        return tree

    def label(self) -> None:
        """Pass words that name what follows: `Area = 5`, `the answer is 5`, `about 5`."""
        place = self.place
        while self.tokens[place].kind == "text":
            place += 1
        if place > self.place and self.tokens[place].text in ("=", "approx", ":"):
            self.place = place + 1
        elif place > self.place and self.tokens[place - 1].text.lower() in ("is", "are", "about", "approximately", "equals"):
            self.place = place
        elif self.at("approx", "therefore", "because", ":", "="):
            self.next()

    def at_number_word(self) -> bool:
        """`four` or `half`, where it does not begin a phrase."""
        word = self.token.text.lower().strip(".")
        return word in NUMBER_WORDS and self.peek().kind in ("end", "separator")

    def words(self, start: int) -> Tree:
        """Everything up to the next separator, as a phrase."""
        self.place = start
        found = []
        while self.token.kind not in ("separator", "end") and not self.at(")", "]", "\\}", "}", "&", "\\"):
            token = self.next()
            found.append(token.text)
            self.unit = ""
        return Tree("text", text=phrase(" ".join(found)))

    # relations and sets

    def relation(self) -> Tree:
        operands, operators = [self.union()], []
        while True:
            negated = self.at("not")
            if negated:
                self.next()
            if not (self.token.kind in ("symbol", "command") and self.token.text in RELATIONS):
                if negated:
                    raise Unreadable("a negation of nothing")
                break
            operator = RELATIONS[self.next().text]
            operators.append({"=": "!=", "in": "notin"}.get(operator, "!" + operator) if negated else operator)
            operands.append(self.union())
        if self.at("pmod", "bmod", "mod") and operators:
            self.next()
            operators.append("mod")
            operands.append(self.union())
        return Tree("relation", tuple(operands), " ".join(operators)) if operators else operands[0]

    def union(self) -> Tree:
        tree = self.ratio()
        while self.at("cup", "cap", "setminus"):
            op = {"cup": "union", "cap": "cut", "setminus": "without"}[self.next().text]
            right = self.ratio()
            parts = (*tree.parts, right) if tree.op == op == "union" else (tree, right)
            tree = Tree(op, parts)
        return tree

    def ratio(self) -> Tree:
        parts = [self.sum()]
        while self.at(":") and not self.bars and not self.builders:
            self.next()
            parts.append(self.sum())
        self.units()
        return Tree("ratio", tuple(parts)) if len(parts) > 1 else parts[0]

    def units(self) -> None:
        """Words behind an expression: its unit, or a factor such as `dozen`."""
        found: list[str] = []
        while True:
            if self.token.kind == "text" or (
                self.unit == "degree" and not found and self.token.text in ("C", "F") and self.token.kind == "letter"
            ):
                found.append(self.next().text)
            elif found and self.at("^"):
                self.next()
                exponent = "".join(token.text for token in self.braced()) if self.at("{") else self.next().text
                found[-1] += f"^{exponent}"
            elif self.at("/") and (found or self.unit) and self.peek().kind in ("text", "letter"):
                self.next()
                found += ["per", self.next().text]
            elif found and self.at("*") and self.peek().kind == "text":
                self.next()
            elif self.at("$", "€", "£", "¥"):
                found.append({"$": "dollar", "€": "euro", "£": "£", "¥": "yuan"}[self.next().text])
            elif found and found[0].lower() in ("is", "are", "if", "when", "where", "for", "not", "than", "with"):
                raise Unreadable("a sentence")
            elif self.at("(") and self.unit_in_brackets():
                continue
            else:
                break
        if found:
            name = _unit_phrase(found)
            if self.unit == "degree" and found[0] in ("C", "F"):
                name = f"degree {found[0]}"
            elif self.unit == "dollar" and name.startswith("per "):
                name = f"dollar {name}"
            elif self.unit in ("degree", "dollar", "%"):
                name = self.unit
            self.unit = name or self.unit

    def unit_in_brackets(self) -> bool:
        """`5 (cm)`: a unit in brackets behind a number."""
        if self.peek().kind == "text" and self.peek(2).text == ")":
            self.place += 1
            self.unit = _unit_phrase([self.next().text])
            self.place += 1
            return True
        return False

    # expressions

    def sum(self) -> Tree:
        terms = [self.signed()]
        while self.at("+", "-", "pm", "mp"):
            terms.append(self.signed())
        return Tree("+", tuple(terms)) if len(terms) > 1 else terms[0]

    def signed(self) -> Tree:
        minus = both = False
        while self.at("+", "-", "pm", "mp"):
            sign = self.next().text
            minus ^= sign in ("-", "mp")
            both |= sign in ("pm", "mp")
        tree = self.term()
        tree = Tree("±", (tree,)) if both else tree
        return Tree("-", (tree,)) if minus else tree

    def term(self) -> Tree:
        tree = self.mixed() or self.factor()
        while True:
            if self.at("*"):
                self.next()
                tree = _product(tree, self.signed() if self.at("-", "+", "pm") else self.factor())
            elif self.at("/") and self.peek().kind != "text":
                self.next()
                tree = Tree("/", (tree, self.signed() if self.at("-") else self.factor()))
            elif self.at("bmod", "mod"):
                self.next()
                tree = Tree("call", (tree, self.factor()), "mod")
            elif self.token.kind == "text" and self.token.text.lower() in FACTORS:
                tree = _product(tree, number(FACTORS[self.next().text.lower()]))
            elif self.starts_factor():
                before = self.tokens[self.place - 1]
                if self.token.kind == "number" and before.kind == "number":
                    raise Unreadable("two numbers side by side")
                tree = _product(tree, self.factor())
            else:
                return tree

    def mixed(self) -> Tree | None:
        r"""A mixed number: `3 1/2`, `3\frac12`, `3(1/2)` only in the doubled brackets of Math23K, `1((4)/(15))`."""
        whole = self.token
        if whole.kind != "number" or not whole.text.isdigit() or whole.number is None:
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
                return _product(Tree("number", text=whole.text, number=whole.number), fraction)
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
        token = self.token
        if token.kind in ("number", "letter", "name"):
            return True
        if token.kind == "symbol":
            if token.text == "|":
                return not self.bars and not self.builders
            if token.text == "(" and self.peek().kind == "text" and self.peek(2).text == ")":
                return False
            return token.text in ("(", "[", "{", "\\{")
        return token.kind == "command" and token.text not in RELATIONS and token.text not in (
            "\\", "end", "cup", "cap", "setminus", "pm", "mp", "rangle", "rfloor", "rceil", "choose", "over", "circ",
            "bmod", "mod", "pmod", "not",
            "to", "implies", "Rightarrow", "rightarrow", "therefore", "because", "|",
        )  # fmt: skip

    def factor(self) -> Tree:
        tree = self.atom()
        while True:
            if self.at("^"):
                if self.peek().text == "circ" or (self.peek().text == "{" and self.peek(2).text == "circ"):
                    self.next()
                    self.argument_tokens()
                    tree = self.degrees(tree)
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
                self.next()
                tree = self.subscript(tree)
            else:
                return tree

    def primed(self, tree: Tree) -> Tree:
        marks = len(self.argument_tokens())
        return replace(tree, text=tree.text + marks * "'") if tree.op == "symbol" else Tree("call", (tree,), marks * "'")

    def degrees(self, tree: Tree) -> Tree:
        if self.angles:
            return _product(Tree("/", (tree, number(180))), Tree("symbol", text="pi"))
        self.unit = "degree"
        return tree

    def subscript(self, tree: Tree) -> Tree:
        name = " ".join(token.text for token in self.argument_tokens())
        if (tree.op == "number" and name.isdigit()) or (
            tree.op == "symbol" and tree.text.isupper() and len(tree.text) > 1 and name.isdigit()
        ):
            self.unit = f"base {name}"
            return tree
        if tree.op == "symbol":
            return replace(tree, text=f"{tree.text}_{name}")
        return Tree("call", (tree,), f"_{name}")

    def atom(self) -> Tree:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("nested too deep")
        token = self.next()
        tree = self.read_atom(token)
        self.depth -= 1
        return tree

    def read_atom(self, token: Token) -> Tree:
        if token.kind == "number":
            return Tree("number", number=token.number)
        if token.kind == "name":
            if self.at("(") and token.text in ("P", "E"):
                return self.call(token.text)
            return Tree("symbol", text=token.text)
        if token.kind == "letter":
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
        place = self.place
        while self.tokens[place].text == "'":
            place += 1
        if self.tokens[place].text == "^" and self.tokens[place + 1].text in ("{", "-"):
            return self.tokens[place + 2].text in ("-", "1") and any(token.text == "(" for token in self.tokens[place : place + 7])
        return self.tokens[place].text == "("

    def call(self, name: str) -> Tree:
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
        """What a function is applied to: its brackets, or the factors up to the next function."""
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
                    tree = _product(tree, self.factor())
        self.angles -= name in _TRIGONOMETRIC
        return tree

    def argument(self, whole: bool = False) -> Tree:
        """What a command takes: a group, or one token; of several digits the first, unless `whole`."""
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
        angles, self.angles = self.angles, self.angles
        tree = self.atom()
        self.angles = angles
        if self.unit and not outer:
            outer = self.unit
        self.unit = outer
        return tree

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

    def argument_tokens(self, several: bool = False) -> list[Token]:
        if self.at("{"):
            return self.braced()
        found = [self.next()]
        if found[0].kind == "end":
            raise Unreadable("an argument is missing")
        while several and self.token.kind in ("letter", "name"):
            found.append(self.next())
        return found

    def environment(self) -> Tree:
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


def phrase(text: str) -> str:
    """Words for comparison: small letters, no punctuation but what joins words."""
    text = re.sub(r"(?<=\b[a-z])\.(?=[a-z]\b|\s|$)", "", text.lower())
    return " ".join(re.sub(r"[^\w\s:+/-]", " ", text).split()).removeprefix("the ").removeprefix("an ")


def _product(left: Tree, right: Tree) -> Tree:
    return Tree("*", (*left.parts, right) if left.op == "*" else (left, right))


def _unit_phrase(words: list[str]) -> str:
    names: list[str] = []
    current: list[str] = []
    for word in [*words, "per"]:
        if word.lower() in ("per", "an", "a", "each", "every") and (word.lower() == "per" or current):
            names.append(unit_name(" ".join(current)) if current else "")
            current = []
        elif word.startswith("每"):
            names.append(unit_name(" ".join(current)) if current else "")
            current = [word[1:]]
        else:
            current.append(word if word in UNITS else _with_power(word))
    return " per ".join(name for name in names if name) if names[0] else "per " + " per ".join(names[1:])


def _with_power(word: str) -> str:
    name, mark, power = word.partition("^")
    return f"{unit_name(name)}{mark}{power}"
