"""The outermost layer of the parser: lists, words and labels, relations, unions, ratios, units."""

from __future__ import annotations

from mathquarry.data.grade.reading.cursor import MAX_DEPTH
from mathquarry.data.grade.reading.terms import Terms
from mathquarry.data.grade.reading.tokens import Token, Unreadable
from mathquarry.data.grade.reading.tree import RELATIONS, Tree, number
from mathquarry.data.grade.reading.words import CUBES, NUMBER_WORDS, SQUARES, UNITS, phrase, unit_phrase

_NEGATED = {"=": "!=", "in": "notin", "<": ">=", ">": "<=", "<=": ">", ">=": "<"}
_NAMES = """
point points vertex center centre focus interval set vector matrix line equation number value values pair pairs solution solutions
root roots function circle coordinates polynomial expression ratio angle length area volume probability sum product
of exactly only nearly roughly around
"""
_NAMING = frozenset(_NAMES.split())
"""Words that can stand before the value that they name: `the point (1, 2)`, `a total of 5`."""
_LIMITS = "not no never none except without neither nor least most less more fewer greater than other"
_REFUSING = frozenset(_LIMITS.split())
"""Words that say that a value is not the answer, or only a limit of it."""


def parse(tokens: list[Token]) -> Tree:
    """The tree of a whole answer. Raises `Unreadable` if the notation is unknown or nested too deep."""
    parser = Parser(tokens)
    tree = parser.items(("end",))
    if parser.token.kind != "end":
        raise Unreadable(f"{parser.token.text!r} is out of place")
    return tree


class Parser(Terms):
    """Reads a whole answer."""

    def items(self, ends: tuple[str, ...]) -> Tree:
        """Items up to one of `ends`; a single item is not a list."""
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
        self.head = self.place
        if self.token.kind == "text" and not self.at_number_word():
            tree = self.words(start)
        else:
            tree = self.relation()
        tree = Tree("unit", (tree,), self.unit) if self.unit else tree
        self.unit = outer
        return tree

    def label(self) -> None:
        """Skip words that introduce the value: `Area = 5`, `the answer is 5`, `about 5`."""
        place = self.place
        while self.tokens[place].kind == "text":
            place += 1
        if place > self.place and self.tokens[place].text in ("=", "approx", ":"):
            self.place = place + 1
        elif self.announces(self.tokens[self.place : place]) and self.tokens[place].kind != "end":
            self.place = place
        elif self.at("approx", "therefore", "because", ":", "=", "implies", "Rightarrow", "rightarrow", "Longrightarrow"):
            self.next()

    def announces(self, words: list[Token]) -> bool:
        """Whether words only introduce or name the value after them, and do not refuse or limit it."""
        found = [word.text.lower() for word in words]
        if not found:
            return False
        return found[-1] in ("is", "are", "about", "approximately", "equals") or (found[-1] in _NAMING and not _REFUSING & set(found))

    def at_number_word(self) -> bool:
        """Whether the current word is `four` or `half`, say, and does not start a phrase."""
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

    def relation(self) -> Tree:
        """Sides and the operators between them; a single side is not a relation."""
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
            if self.unit == "%":  # belongs to this side only
                operands[-1], self.unit = Tree("/", (operands[-1], number(100))), ""
            operators.append(_NEGATED.get(operator, "!" + operator) if negated else operator)
            operands.append(self.union())
        if self.unit == "%" and len(operators) > 1:
            operands[-1], self.unit = Tree("/", (operands[-1], number(100))), ""
        if self.at("pmod", "bmod", "mod") and operators:
            self.next()
            operators.append("mod")
            operands.append(self.union())
        return Tree("relation", tuple(operands), " ".join(operators)) if operators else operands[0]

    def union(self) -> Tree:
        """Sets joined by union, intersection and difference."""
        tree = self.ratio()
        while self.at("cup", "cap", "setminus"):
            op = {"cup": "union", "cap": "cut", "setminus": "without"}[self.next().text]
            right = self.ratio()
            parts = (*tree.parts, right) if tree.op == op == "union" else (tree, right)
            tree = Tree(op, parts)
        return tree

    def ratio(self) -> Tree:
        """Parts of a ratio, and the unit after them."""
        parts = [self.sum()]
        while (self.at(":") and not self.bars and not self.builders) or (
            self.token.kind == "text" and self.token.text in ("to", "比") and self.peek().kind == "number"
        ):
            self.next()
            parts.append(self.sum())
        self.units()
        return Tree("ratio", tuple(parts)) if len(parts) > 1 else parts[0]

    def units(self) -> None:
        """Words after an expression: its unit, or a factor such as `dozen`."""
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
            elif self.at("/") and (self.peek().kind == "text" or ((found or self.unit) and self.peek().kind == "letter")):
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
            name = unit_phrase(found)
            if self.unit == "degree" and found[0] in ("C", "F"):
                name = f"degree {found[0]}"
            elif self.unit == "dollar" and name.startswith("per "):
                name = f"dollar {name}"
            elif self.unit in ("degree", "dollar", "%"):
                name = self.unit
            self.unit = name or self.unit

    def unit_in_brackets(self) -> bool:
        """Read a unit in brackets after a number, `5 (cm)`, or skip a remark: `5 (choose the chairs first)`."""
        words = self.words_in_brackets()
        if not words or _REFUSING & {word.lower() for word in words}:
            return False
        self.place += len(words) + 2
        if len(words) == 1 or words[0].lower() in UNITS or words[0].lower() in SQUARES | CUBES:
            self.unit = unit_phrase(words)
        return True
