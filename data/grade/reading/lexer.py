r"""Splits LaTeX answers into tokens, without spacing and sizes, and with exact numbers.

Later steps work on tokens, not on the text, so that a row break `\\ ` is never mistaken for a backslash and a space.
"""

from __future__ import annotations

import re
from fractions import Fraction

from mathquarry.data.grade.reading.commands import AS_SYMBOLS, SAME_COMMANDS, SKIPPED, STYLES, SYMBOLS, TEXT_COMMANDS
from mathquarry.data.grade.reading.notation import as_latex
from mathquarry.data.grade.reading.tokens import MAX_EXPONENT, Kind, Number, Token, Unreadable
from mathquarry.data.grade.reading.words import FUNCTIONS, JOINTS, UNITS, is_product

_REPEATING = re.compile(
    r"(\d{1,40})?\.(\d{0,40})(?:\\(?:overline|bar|dot)\{?(\d{1,40})\}?(?:(\d{0,40})\\dot\{?(\d)\}?)?|\((\d{1,40})\)(?![\d(]))", re.ASCII
)

_ELLIPSIS = re.compile(r"(\d{1,40})?\.(\d{0,40}?)(?:(\d)\3\3+|(\d{2,6}?)\4+)(?:\.\.\.|\\[lc]?dots)", re.ASCII)

_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?![\d])(?:\.\d+)?", re.ASCII)

_PLAIN = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE]([+-]?\d{1,4})(?![\d.a-zA-Z]))?", re.ASCII)

_COMMAND = re.compile(r"\\([a-zA-Z]+|.)", re.DOTALL)

_LETTERS = re.compile(r"[A-Za-z]+")

_TEXT_WORD = re.compile(r"[^\W\d_]+(?:['’.-](?=[^\W\d_])[^\W\d_]+)*\.?")

_UPRIGHT_UNIT = re.compile(
    r"(?:[\s~]|\\[,;: ]){0,4}([A-Za-z]{1,20})(?:\^\{?-?\d\}?)?"
    r"(?:(?:/|\\cdot\s?|\\[,;: ]|[\s~])[A-Za-z]{1,20}(?:\^\{?-?\d\}?)?){0,3}\s{0,3}\}"
)
"""The content of `\\mathrm{` if it is a unit: ~cm, m/s^2, m\\,s^{-1}."""
_SCALE = re.compile("百万|千万|万|亿")
_CJK = re.compile(r"[\u3400-\u9fff]+")


def tokens(text: str, grouped: bool = True) -> list[Token]:
    """The tokens of a tidy answer, followed by `end`. With `grouped`, a comma in 1,234 groups thousands; without, it separates.

    Raises `Unreadable` for a number that is out of range.
    """
    return _Lexer(as_latex(text), grouped).read()


class _Lexer:
    def __init__(self, text: str, grouped: bool) -> None:
        self.text, self.grouped = text, grouped
        self.place, self.found = 0, list[Token]()
        self.spaced = False
        # For each open brace, whether its content is text.
        self.braces: list[bool] = []

    def read(self) -> list[Token]:
        while self.place < len(self.text):
            character = self.text[self.place]
            if character.isspace() or character == "~":
                self.spaced, self.place = True, self.place + 1
            elif character in "①②③④⑤⑥⑦⑧⑨":
                self.place += 1
                self.add("letter", character)
            elif character.isdigit() or character == ".":
                self._number()
            elif character == "\\":
                self._command()
            elif character.isalpha():
                self._letters()
            else:
                self._symbol(character)
        self.add("end", "")
        return self.found

    def add(self, kind: Kind, text: str, number: Number | None = None) -> None:
        self.found.append(Token(kind, text, number, self.spaced))
        self.spaced = False

    @property
    def in_text(self) -> bool:
        return bool(self.braces) and self.braces[-1]

    def _number(self) -> None:
        if match := _REPEATING.match(self.text, self.place):
            whole, fixed, cycle, middle, last, bracket = match.groups()
            cycle = (cycle or bracket) + (middle or "") + (last or "")
            value = Fraction(int((whole or "0") + fixed), 10 ** len(fixed)) + Fraction(
                int(cycle), 10 ** len(fixed) * (10 ** len(cycle) - 1)
            )
            self.place = match.end()
            return self.add("number", match[0], Number(value))
        if match := _ELLIPSIS.match(self.text, self.place):
            whole, fixed, digit, digits = match.groups()
            cycle = digit or digits
            value = Fraction(int((whole or "0") + fixed), 10 ** len(fixed)) + Fraction(
                int(cycle), 10 ** len(fixed) * (10 ** len(cycle) - 1)
            )
            self.place = match.end()
            return self.add("number", match[0], Number(value))
        match = (self.grouped and not self._in_brackets() and _GROUPED.match(self.text, self.place)) or _PLAIN.match(self.text, self.place)
        if match is None:  # a period, an ellipsis, or digits of another script
            if self.text.startswith("...", self.place):
                self.place += 3
                return self.add("command", "ldots")
            if self.text[self.place] != ".":
                raise Unreadable("digits of another script")
            self.place += 1
            return None
        self.place = match.end()
        exponent = int(match[1] or 0) if match.re is _PLAIN else 0
        if abs(exponent) > MAX_EXPONENT:
            raise Unreadable("a number out of range")
        if match[0].isdecimal():
            return self.add("number", match[0], Number(Fraction(int(match[0]))))
        digits, _, decimals = re.split("[eE]", match[0].replace(",", ""))[0].partition(".")
        step = Fraction(10) ** (exponent - len(decimals))
        value = int((digits or "0") + decimals) * step
        return self.add("number", match[0], Number(value, step if value.denominator > 1 else None))

    def _in_brackets(self) -> bool:
        return any(token.text in ("(", "[") for token in self.found if token.kind == "symbol")

    def _command(self) -> None:
        match = _COMMAND.match(self.text, self.place)
        if match is None:  # a backslash at the end
            self.place += 1
            return
        name, self.place = match[1], match.end()
        if name in SKIPPED:  # by the name as written: `\\/` and `\\>` are spacing, `\\div` and `\\gt` are not
            self.spaced = True
            if name in ("left", "right", "middle") and self.text.startswith(".", self.place):
                self.place += 1
            return
        name = SAME_COMMANDS.get(name, name)
        if name in TEXT_COMMANDS and self._opens_text(name):
            return
        if name in STYLES or name in TEXT_COMMANDS:
            return
        if name == "\\":
            self.add("command", "\\")
            bracket = re.compile(r"\[-?[\d.]+\s?(?:pt|em|ex|mm)\]").match(self.text, self.place)
            self.place = bracket.end() if bracket else self.place
        elif name in ("and", "or"):
            self.add("separator", name)
        elif name in "{}":
            self.add("symbol", "\\" + name)
        elif name in AS_SYMBOLS or name in ("$", "€", "£"):
            self.add("symbol", name)
        else:
            self.add("command", name)

    def _opens_text(self, name: str) -> bool:
        """Enter `\\text{`. A single letter in upright or bold type stays a letter, and a run of digits a number."""
        group = re.compile(r"\s{0,3}\{").match(self.text, self.place)
        if group is None:
            return False
        if not name.startswith(("text", "mbox", "hbox")):
            unit = _UPRIGHT_UNIT.match(self.text, group.end())
            if unit and self._after_number() and unit[1] in UNITS:
                self.braces.append(True)
                self.place = group.end()
                return True
            inner = re.compile(r"\s{0,3}([A-Za-z]+)\s{0,3}\}").match(self.text, group.end())
            if inner is None or len(inner[1]) == 1:
                return False
            if inner[1] in FUNCTIONS:
                self.place = inner.end()
                self.add("command", inner[1])
                return True
        self.braces.append(True)
        self.place = group.end()
        self.spaced = True
        return True

    def _letters(self) -> None:
        if match := _CJK.match(self.text, self.place):
            self.place = match.end()
            for part in re.split("(或者|或|和|与|及|且)", match[0]):
                if part in ("或者", "或", "和", "与", "及", "且"):
                    self.add("separator", "or" if part.startswith("或") else "and")
                elif part:
                    scale = _SCALE.match(part) if self._after_number() else None
                    for word in (scale[0], part[scale.end() :]) if scale else (part,):
                        if word:
                            self.add("text", word)
            return
        if self.in_text:
            match = _TEXT_WORD.match(self.text, self.place)
            assert match is not None
            self.place = match.end()
            word = match[0]
            self.add("separator", JOINTS[word.lower()]) if word.lower() in JOINTS else self.add("text", word)
            return
        match = _LETTERS.match(self.text, self.place)
        if match is None:  # a letter of another script
            self.add("letter", self.text[self.place])
            self.place += 1
            return
        run, self.place = match[0], match.end()
        self._run(run)

    def _run(self, run: str) -> None:
        """A bare run of letters: one symbol, a function, a joint, a unit, a word, a name in capitals, or a product."""
        lower = run.lower()
        if len(run) == 1:
            self.add("letter", run)
        elif len(run) == 2 and not run.isupper() and lower not in UNITS and self._between_signs(run):
            self.add("letter", run[0])
            self.add("letter", run[1])
        elif run in FUNCTIONS:
            self.add("command", FUNCTIONS[run])
        elif lower in JOINTS:
            self.add("separator", JOINTS[lower])
        elif run.isupper() and len(run) <= 4 and not (run in UNITS and self._after_number()):
            self.add("name", run)
        elif (lower in UNITS and (self._after_number() or len(run) > 3)) or not is_product(run):
            end = re.compile(r"\.(?=[A-Za-z])[A-Za-z]\.|\.").match(self.text, self.place)
            if end and lower in ("a", "p", "sq", "cu", "ft", "in"):
                self.place = end.end()
            self.add("text", run)
        else:
            for letter in run:
                self.add("letter", letter)

    def _between_signs(self, run: str) -> bool:
        """Whether two letters are directly between signs of a formula, as in `e^{it}`, and so are not a word."""
        before, after = self.text[: self.place - len(run)][-1:], self.text[self.place : self.place + 1]
        return (
            bool(self.found)
            and not self.in_text
            and before in ("(", "{", "^", "+", "-", "*", "/")
            and after in (")", "}", "+", "-", "*", "/", "^")
            and run not in FUNCTIONS
            and run.lower() not in JOINTS
        )

    def _after_number(self) -> bool:
        return bool(self.found) and (
            self.found[-1].kind in ("number", "text")
            or self.found[-1].text in (")", "}", "]", "pi", "/", "%", "circ")
            or (self.found[-1].text == "*" and len(self.found) > 1 and self.found[-2].kind == "text")
        )

    def _symbol(self, character: str) -> None:
        self.place += 1
        two = self.text[self.place - 1 : self.place + 1]
        if character in ",;":
            return self.add("separator", character)
        if two in ("<=", ">=", "!=", "**", "==", "=<", "=>"):
            self.place += 1
            if two == "**":
                return self.add("symbol", "^")
            if two == "==":
                return self.add("symbol", "=")
            return self.add("command", {"<=": "le", "=<": "le", ">=": "ge", "=>": "ge", "!=": "ne"}[two])
        if character == "{":
            self.braces.append(False)
        elif character == "}" and self.braces and self.braces.pop():
            self.spaced = True
            return None
        if character in SYMBOLS or character in "$€£¥":
            return self.add("symbol", character)
        return self.add("letter", character)
