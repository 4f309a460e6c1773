r"""LaTeX answers as tokens: spacing and sizes are gone, Unicode and Chinese notation is LaTeX, numbers are exact.

Works on tokens rather than on the text, so that a row break `\\ ` is never taken for a backslash and a space.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from data.grade.words import FUNCTIONS, JOINTS, UNITS, is_product

MAX_CHARACTERS = 1000
"""Longer answers are not parsed at all; the longest gold answer of GSM8K and MATH has 159 characters."""
MAX_EXPONENT = 400
"""Of a number in scientific notation. A larger one is not read."""

FULL_WIDTH = str.maketrans({chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)} | {"。": ".", "\u3000": " ", "\u00a0": " "})

Kind = Literal["number", "letter", "name", "text", "command", "symbol", "separator", "end"]


@dataclass(frozen=True, slots=True)
class Number:
    """An exact value. `step` is the weight of the last digit of a written decimal; None where nothing was rounded away."""

    value: Fraction
    step: Fraction | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """`text` is the letter, name, command without backslash, symbol, or the words of a text. `spaced`: space stands before it."""

    kind: Kind
    text: str
    number: Number | None = None
    spaced: bool = False


class Unreadable(ValueError):
    """An answer that is not in the notation that is read here."""


_UNICODE = {
    "−": "-",
    "–": "-",
    "—": "-",
    "‐": "-",
    "﹣": "-",
    "∞": r"\infty ",
    "π": r"\pi ",
    "θ": r"\theta ",
    "α": r"\alpha ",
    "β": r"\beta ",
    "γ": r"\gamma ",
    "λ": r"\lambda ",
    "μ": r"\mu ",
    "ω": r"\omega ",
    "φ": r"\phi ",
    "×": r"\times ",
    "·": r"\cdot ",
    "⋅": r"\cdot ",
    "∙": r"\cdot ",
    "∗": "*",
    "÷": "/",
    "⁄": "/",
    "∕": "/",
    "≤": r"\le ",
    "≦": r"\le ",
    "⩽": r"\le ",
    "≥": r"\ge ",
    "≧": r"\ge ",
    "⩾": r"\ge ",
    "≠": r"\ne ",
    "≈": r"\approx ",
    "∈": r"\in ",
    "∪": r"\cup ",
    "∩": r"\cap ",
    "∅": r"\emptyset ",
    "ℝ": r"\mathbb{R}",
    "±": r"\pm ",
    "∓": r"\mp ",
    "°": r"^\circ ",
    "˚": r"^\circ ",
    "º": r"^\circ ",
    "℃": r"^\circ C",
    "√": r"\sqrt ",
    "∛": r"\sqrt[3]",
    "∠": r"\angle ",
    "△": r"\triangle ",
    "…": r"\ldots ",
    "⋯": r"\ldots ",
    "′": "'",
    "’": "'",
    "∣": "|",
    "〈": r"\langle ",
    "〉": r"\rangle ",
    "⟨": r"\langle ",
    "⟩": r"\rangle ",
    "￥": "¥",
    "∧": r"\land ",
    "∨": r"\lor ",
    "、": ",",
    "【": "[",
    "】": "]",
    "“": "",
    "”": "",
    "\u200b": "",
    "\ufeff": "",
    "½": r"\frac{1}{2}",
    "⅓": r"\frac{1}{3}",
    "⅔": r"\frac{2}{3}",
    "¼": r"\frac{1}{4}",
    "¾": r"\frac{3}{4}",
    "⅕": r"\frac{1}{5}",
    "⅖": r"\frac{2}{5}",
    "⅗": r"\frac{3}{5}",
    "⅘": r"\frac{4}{5}",
    "⅙": r"\frac{1}{6}",
    "⅚": r"\frac{5}{6}",
    "⅛": r"\frac{1}{8}",
    "⅜": r"\frac{3}{8}",
    "⅝": r"\frac{5}{8}",
    "⅞": r"\frac{7}{8}",
}
_UNICODE_TABLE = str.maketrans(_UNICODE)
_SCRIPTS = {
    "^": dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True)),
    "_": dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True)),
}
_SCRIPT_RUNS = [(mark, re.compile(f"[{''.join(table)}]+"), str.maketrans(table)) for mark, table in _SCRIPTS.items()]

# Rewrites of whole notations. Each looks at a bounded stretch, so that no input makes one quadratic.
_REWRITES: list[tuple[re.Pattern[str], str]] = [
    (re.compile(r"(\d) {0,3}又 {0,3}(\d{1,20}) {0,3}分之 {0,3}(\d{1,20})"), r"\1 \3/\2"),
    (re.compile(r"(\d) {0,3}又"), r"\1 "),
    (re.compile(r"百分之 {0,3}(\d{1,20}(?:\.\d{1,20})?)"), r"\1\\%"),
    (re.compile(r"(\d{1,20}) {0,3}分之 {0,3}(\d{1,20})"), r"\2/\1"),
    # thousands: a comma or a thin space that is set apart, and plain spaces between groups of three
    (re.compile(r"(?<=\d)(?:\s?\{\s?,\s?\}|,\s?\\!|\\!,|\\,|\\;|\\:|\\ |~)\s{0,3}(?=\d{3}(?!\d))"), "\u2060"),
    (re.compile(r"(?<![\d.,^_/}])(\d{1,3}) (?=\d{3}(?: \d{3})*(?![\d.,/]|\\d?t?frac)(?=[^\d]|$))"), "\\1\u2060"),
    (re.compile(r"(?<=\u2060)(\d{3}) (?=\d{3}(?!\d))"), "\\1\u2060"),
    (re.compile(r"(?<=\d)\{\s?\.\s?\}(?=\d)"), "."),
]
_CIRCLED = re.compile(r"\\(?:text)?circled\s?\{?([1-9])\}?")
_JOINER = re.compile("\u2060")
_REPEATING = re.compile(
    r"(\d{1,40})?\.(\d{0,40})(?:\\(?:overline|bar|dot)\{?(\d{1,40})\}?(?:(\d{0,40})\\dot\{?(\d)\}?)?|\((\d{1,40})\)(?![\d(]))", re.ASCII
)
_ELLIPSIS = re.compile(r"(\d{1,40})?\.(\d{0,40}?)(\d)\3\3+(?:\.\.\.|\\[lc]?dots)", re.ASCII)
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?![\d])(?:\.\d+)?", re.ASCII)
_PLAIN = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE]([+-]?\d{1,4})(?![\d.a-zA-Z]))?", re.ASCII)
_COMMAND = re.compile(r"\\([a-zA-Z]+|.)", re.DOTALL)
_LETTERS = re.compile(r"[A-Za-z]+")
_TEXT_WORD = re.compile(r"[^\W\d_]+(?:['’.-](?=[^\W\d_])[^\W\d_]+)*\.?")
_CJK = re.compile(r"[\u3400-\u9fff]+")
_TEXT_COMMANDS = frozenset(
    [
        "text",
        "textrm",
        "textbf",
        "textit",
        "textnormal",
        "textsf",
        "texttt",
        "mbox",
        "hbox",
        "mathrm",
        "rm",
        "operatorname",
        "mathsf",
        "mathbf",
        "bf",
        "boldsymbol",
        "bm",
        "mathit",
    ]
)
_STYLES = frozenset(
    [
        "mathbf",
        "mathit",
        "boldsymbol",
        "bm",
        "bf",
        "vec",
        "overrightarrow",
        "mathcal",
        "mathscr",
        "hat",
        "widehat",
        "tilde",
        "underline",
        "boxed",
        "fbox",
        "ensuremath",
        "mathord",
    ]
)
_SKIPPED = frozenset(
    [
        "left",
        "right",
        "big",
        "Big",
        "bigg",
        "Bigg",
        "bigl",
        "bigr",
        "Bigl",
        "Bigr",
        "biggl",
        "biggr",
        "Biggl",
        "Biggr",
        "middle",
        "displaystyle",
        "textstyle",
        "scriptstyle",
        "limits",
        "nolimits",
        "quad",
        "qquad",
        "phantom",
        "hphantom",
        "vphantom",
        "strut",
        "hfill",
        "thinspace",
        "medspace",
        "thickspace",
        "negthinspace",
        "nobreakspace",
        ",",
        ";",
        ":",
        "!",
        ">",
        "/",
        "-",
        " ",
        "\n",
        "\t",
    ]
)
_SAME_COMMANDS = {
    "dfrac": "frac",
    "tfrac": "frac",
    "cfrac": "frac",
    "leq": "le",
    "leqslant": "le",
    "leqq": "le",
    "geq": "ge",
    "geqslant": "ge",
    "geqq": "ge",
    "lt": "<",
    "gt": ">",
    "neq": "ne",
    "lbrace": "{",
    "rbrace": "}",
    "lbrack": "[",
    "rbrack": "]",
    "lvert": "|",
    "rvert": "|",
    "vert": "|",
    "mid": "|",
    "dots": "ldots",
    "cdots": "ldots",
    "dotsc": "ldots",
    "dotsb": "ldots",
    "varnothing": "emptyset",
    "dbinom": "binom",
    "tbinom": "binom",
    "times": "*",
    "cdot": "*",
    "ast": "*",
    "div": "/",
    "colon": ":",
    "lor": "or",
    "vee": "or",
    "land": "and",
    "wedge": "and",
    "tg": "tan",
    "ctg": "cot",
    "arctg": "arctan",
    "degree": "circ",
    "textdegree": "circ",
    "simeq": "approx",
    "sim": "approx",
    "doteq": "approx",
    "varphi": "phi",
    "varepsilon": "epsilon",
    "vartheta": "theta",
    "infin": "infty",
    "Reals": "R",
    "bigcup": "cup",
    "backslash": "setminus",
    "smallsetminus": "setminus",
    "newline": "\\",
    "cr": "\\",
    "prime": "'",
    "euro": "€",
    "pounds": "£",
    "textdollar": "$",
    "intercal": "T",
}
_AS_SYMBOLS = frozenset(["<", ">", "|", "*", "/", ":", "[", "]", "'", "%", "&", "#"])
_SYMBOLS = frozenset("+-*/^_=<>()[]{}|!':%&~@#\"`?")


def tidy(text: str) -> str:
    """An answer without what only frames it: full width, dollar signs of mathematics, bold marks of Markdown, a final full stop."""
    text = text.translate(FULL_WIDTH).strip()
    while len(text) > 4 and text.startswith("**") and text.endswith("**"):
        text = text[2:-2].strip()
    for opening, closing in ((r"\(", r"\)"), (r"\[", r"\]"), ("$$", "$$"), ("$", "$")):
        if (
            len(text) > len(opening + closing)
            and text.startswith(opening)
            and text.endswith(closing)
            and not text.endswith("\\" + closing[-1:] * 2)
        ):
            text = text[len(opening) : -len(closing)].strip()
    # A lone dollar sign is money: one that stands at a number's side, where no other closes it.
    dollars = len(re.findall(r"(?<!\\)\$", text))
    text = re.sub(r"(?<!\\)\$", r"\\$" if dollars == 1 else " ", text)
    text = re.sub(r"\\[()]|(?<!\\)\\[\[\]](?!\d*(?:pt|em|ex|mm))", " ", text) if re.search(r"\\[(\[]", text) else text
    text = text.strip()
    while text and (text[-1] in ".,;:" or (text[-1] == "\\" and not text.endswith("\\\\"))) and not text.endswith("..."):
        text = text[:-1].rstrip()
    return text


def tokens(text: str, grouped: bool = True) -> list[Token]:
    """The tokens of a tidy answer, an `end` behind them. With `grouped`, a comma in 1,234 groups thousands; without, it separates.

    Raises `Unreadable` for a number that is out of range.
    """
    text = _CIRCLED.sub(lambda circled: chr(ord("①") + int(circled[1]) - 1), text.translate(_UNICODE_TABLE))
    for mark, run, table in _SCRIPT_RUNS:
        text = run.sub(rf"{mark}{{\g<0>}}", text).translate(table)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return _Lexer(_JOINER.sub("", text), grouped).read()


class _Lexer:
    def __init__(self, text: str, grouped: bool) -> None:
        self.text, self.grouped = text, grouped
        self.place, self.found = 0, list[Token]()
        self.spaced = False
        # Braces that are open: whether what they hold is text.
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
            whole, fixed, digit = match.groups()
            value = Fraction(int((whole or "0") + fixed), 10 ** len(fixed)) + Fraction(int(digit), 10 ** len(fixed) * 9)
            self.place = match.end()
            return self.add("number", match[0], Number(value))
        match = (self.grouped and not self._in_brackets() and _GROUPED.match(self.text, self.place)) or _PLAIN.match(self.text, self.place)
        if match is None:  # a full stop, an ellipsis of them, or digits of another script
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
        name = _SAME_COMMANDS.get(name, name)
        if name in _SKIPPED:
            self.spaced = True
            if name in ("left", "right", "middle") and self.text.startswith(".", self.place):
                self.place += 1
            return
        if name in _TEXT_COMMANDS and self._opens_text(name):
            return
        if name in _STYLES or name in _TEXT_COMMANDS:
            return
        if name == "\\":
            self.add("command", "\\")
            bracket = re.compile(r"\[-?[\d.]+\s?(?:pt|em|ex|mm)\]").match(self.text, self.place)
            self.place = bracket.end() if bracket else self.place
        elif name in ("and", "or"):
            self.add("separator", name)
        elif name in "{}":
            self.add("symbol", "\\" + name)
        elif name in _AS_SYMBOLS or name in ("$", "€", "£"):
            self.add("symbol", name)
        else:
            self.add("command", name)

    def _opens_text(self, name: str) -> bool:
        """Enter `\\text{`; a single letter in upright or bold type is that letter, and so is a run of digits."""
        group = re.compile(r"\s{0,3}\{").match(self.text, self.place)
        if group is None:
            return False
        if not name.startswith(("text", "mbox", "hbox")):
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
                    self.add("text", part)
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

    def _after_number(self) -> bool:
        return bool(self.found) and (
            self.found[-1].kind in ("number", "text") or self.found[-1].text in (")", "}", "]", "pi", "/", "%", "circ")
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
        if character in _SYMBOLS or character in "$€£¥":
            return self.add("symbol", character)
        return self.add("letter", character)
