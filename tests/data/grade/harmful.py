"""Wrong answers that look like a gold answer: a checker must reject them.

Each rule gives any number of them. Rules change one thing: a digit, a sign, a letter, an order, a bracket, a row, a unit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from tests.data.grade import pieces

Rule = Callable[[str], Iterator[str]]
RULES: dict[str, Rule] = {}
_NUMERIC = ("number", "expression")
_PLAIN = re.compile(r"\\[a-zA-Z]+|[a-zA-Z]")


def spellings(gold: str) -> dict[str, str]:
    """Every wrong answer by the name of its rule (numbered if it gives several); all differ from each other and from the gold answer."""
    found: dict[str, str] = {}
    for name, rule in RULES.items():
        for number, wrong in enumerate(rule(gold)):
            if wrong != gold and wrong not in found.values():
                found[f"{name} {number}"] = wrong
    return found


def rule(function: Rule) -> Rule:
    """Register a rule under its name."""
    RULES[function.__name__.replace("_", " ").strip()] = function
    return function


def _digits(gold: str) -> list[int]:
    """Places of the first, the middle and the last digit; none if an exact and a rounded value are side by side."""
    if "approx" in gold or re.fullmatch(r"[\d.]+ = [\d.]+\\%", gold):
        return []
    places = [match.start() for match in re.finditer(r"\d", gold)]
    return sorted({places[0], places[len(places) // 2], places[-1]}) if places else []


@rule
def digit_raised(gold: str) -> Iterator[str]:
    for place in _digits(gold):
        yield f"{gold[:place]}{(int(gold[place]) + 1) % 10}{gold[place + 1 :]}"


@rule
def digit_lowered(gold: str) -> Iterator[str]:
    for place in _digits(gold)[-1:]:
        yield f"{gold[:place]}{(int(gold[place]) - 1) % 10}{gold[place + 1 :]}"


@rule
def digit_doubled(gold: str) -> Iterator[str]:
    for place in _digits(gold)[:1]:
        if gold[place] != "0":
            yield f"{gold[: place + 1]}{gold[place]}{gold[place + 1 :]}"


@rule
def digit_dropped(gold: str) -> Iterator[str]:
    if found := re.search(r"(?<![\d.])([1-9])\d+", gold):
        yield gold[: found.start()] + gold[found.start() + 1 :]


@rule
def digits_swapped(gold: str) -> Iterator[str]:
    if (found := re.search(r"(\d)(?!\1)(\d)", gold)) and _digits(gold):
        yield gold[: found.start()] + found[2] + found[1] + gold[found.end() :]


@rule
def point_moved(gold: str) -> Iterator[str]:
    number = pieces.value(gold)
    if number and number.denominator == 1:
        yield f"{int(number)}0"
        yield f"{int(number) // 10}.{abs(int(number)) % 10}" if number > 0 else f"-0.{-int(number)}"
    elif found := re.fullmatch(r"(-?\d+)\.(\d)(\d*)", gold):
        yield f"{found[1]}{found[2]}.{found[3] or '0'}"


@rule
def nearly(gold: str) -> Iterator[str]:
    number = pieces.value(gold)
    if number is None:
        return
    if number.denominator == 1:
        yield f"{int(number)}.001"
        yield rf"{int(number)}\frac{{1}}{{1000}}" if number > 0 else f"{int(number)}.0001"
    elif pieces.decimal(number) is None:
        yield from (wrong for wrong in (f"{float(number):.2f}", f"{float(number):.1f}1") if len(re.sub(r"\D", "", wrong).lstrip("0")) < 5)


@rule
def negated(gold: str) -> Iterator[str]:
    if pieces.kind(gold) in _NUMERIC and pieces.value(gold) != 0 and "\\pm" not in gold and not re.search(r"[:%]", gold):
        yield gold[1:] if re.fullmatch(r"-[^-+]*", gold) else f"-({gold})"


@rule
def inner_sign(gold: str) -> Iterator[str]:
    if pieces.kind(gold) in ("words", "choice", "mixed", "matrix"):
        return
    found = re.search(r"(?<=[\w})] )[-+](?= ?[\w\\(])|(?<=[\w})])[-+](?=[\w\\(])", re.sub(r"\\pm|\\mp", "\\\\??", gold))
    if found and "|" not in gold:
        yield gold[: found.start()] + ("-" if found[0] == "+" else "+") + gold[found.end() :]


@rule
def changed_value(gold: str) -> Iterator[str]:
    if pieces.kind(gold) not in _NUMERIC or re.search(r"[:%$_]|\\circ|\\infty|\\pm|dots", gold):
        return
    yield f"{gold} + 1"
    if pieces.value(gold) != 0:
        yield rf"2\left({gold}\right)"
        yield rf"\frac{{{gold}}}{{3}}"
    if pieces.value(gold) not in (0, 1, -1):
        yield f"({gold})^3"


@rule
def fraction_turned(gold: str) -> Iterator[str]:
    if (found := re.search(r"\\frac\{([^{}]+)\}\{([^{}]+)\}", gold)) and found[1].strip("-") != found[2].strip("-") and found[1] != "0":
        yield rf"{gold[: found.start()]}\frac{{{found[2]}}}{{{found[1]}}}{gold[found.end() :]}"


@rule
def root_dropped(gold: str) -> Iterator[str]:
    if (found := re.search(r"\\sqrt\{?(\d+)\}?", gold)) and int(found[1]) > 1 and pieces.kind(gold) != "mixed":
        yield f"{gold[: found.start()]} ({found[1]}) {gold[found.end() :]}" if "^" not in gold[found.end() :][:2] else f"{gold}+1"


@rule
def constant_changed(gold: str) -> Iterator[str]:
    if re.search(r"\\pi(?![a-z])", gold) and pieces.kind(gold) != "mixed":
        yield re.sub(r"\\pi(?![a-z])", "e", gold, count=1)
        yield re.sub(r"\\pi(?![a-z])", " 3.14", gold, count=1) if pieces.kind(gold) == "expression" else f"{gold}, 7919"


@rule
def rounded_root(gold: str) -> Iterator[str]:
    if (found := re.fullmatch(r"\\sqrt\{(\d+)\}", gold)) and int(found[1]) ** 0.5 % 1:
        yield f"{int(found[1]) ** 0.5:.7f}"


@rule
def letter_changed(gold: str) -> Iterator[str]:
    if pieces.kind(gold) in ("expression", "relation", "interval"):
        letters = [match for match in _PLAIN.finditer(gold) if len(match[0]) == 1 and match[0] not in "eidU"]
        if letters and "\\text" not in gold and "mathbb" not in gold and "log" not in gold:
            first = letters[0]
            # Everywhere, so that x - x stays what it is; another letter, then the same in the other case.
            for other in ("q" if first[0] != "q" else "w", first[0].swapcase()):
                if other not in gold and other not in "fghdi" and first[0] not in "fghy":
                    yield _PLAIN.sub(lambda match, other=other, first=first: other if match[0] == first[0] else match[0], gold)


@rule
def part_added(gold: str) -> Iterator[str]:
    if pieces.kind(gold) in ("tuple", "interval") and gold[-1] in ")]" and "\\cup" not in gold:
        yield re.sub(r"(\\right)?([)\]])$", r", 7919\1\2", gold)
    elif pieces.kind(gold) == "set":
        yield gold[:-2] + ", 7919\\}"
    else:
        yield f"{gold}, 7919"
    if pieces.kind(gold) != "interval":
        yield rf"{gold} \text{{ or }} 7919"


@rule
def part_dropped(gold: str) -> Iterator[str]:
    parts = pieces.split(gold, ",")
    if pieces.kind(gold) == "list" and len(set(parts)) == len(parts):
        yield ", ".join(parts[:-1])
        yield ", ".join(parts[1:])
    elif (found := re.fullmatch(r"(\(|\\\{)(.*)(\)|\\\})", gold)) and pieces.kind(gold) in ("tuple", "set"):
        inner = pieces.split(found[2], ",")
        if len(set(inner)) == len(inner) > 1 and not re.search(r"dots|pm|\||mid", gold):
            yield f"{found[1]}{', '.join(inner[:-1])}{found[3]}"


@rule
def part_repeated(gold: str) -> Iterator[str]:
    if pieces.kind(gold) == "list" and ";" not in gold and "\\pm" not in gold and "=" not in gold:
        yield f"{gold}, {pieces.split(gold, ',')[0]}"


@rule
def order_of_a_tuple(gold: str) -> Iterator[str]:
    found = re.fullmatch(r"\((.*)\)", gold.replace("\\left", "").replace("\\right", ""))
    if pieces.kind(gold) == "tuple" and found and not re.search(r"=|dots", gold):
        parts = pieces.split(found[1], ",")
        for other in (parts[::-1], parts[1:] + parts[:1]):
            if other != parts:
                yield f"({', '.join(other)})"


@rule
def brackets(gold: str) -> Iterator[str]:
    if pieces.kind(gold) not in ("interval", "tuple") or "\\in" in gold.replace("\\infty", ""):
        return
    for place, other in ((0, {"(": "[", "[": "("}), (-1, {")": "]", "]": ")"})):
        found = re.match(r"(\\left)?([(\[])", gold) if place == 0 else re.search(r"(\\right)?([)\]])$", gold)
        if found:
            yield gold[: found.start(2)] + other[found[2]] + gold[found.end(2) :]
    if pieces.kind(gold) == "tuple" and gold[0] == "(" and "=" not in gold:
        yield gold[1:-1]


@rule
def lines_of_a_matrix(gold: str) -> Iterator[str]:
    found = pieces.MATRIX.fullmatch(gold.strip(" ."))
    if not found:
        return
    rows = pieces.cells(found[2])
    columns = [list(column) for column in zip(*rows, strict=True)]
    is_number = found[1][0] in "vV"
    if not is_number:
        for other in (rows[::-1], [row[::-1] for row in rows], columns):
            if other != rows:
                yield pieces.matrix(other, found[1])
        if len(rows) > 1:
            yield pieces.matrix(rows[:-1], found[1])
        yield pieces.matrix([*rows, rows[0]], found[1])
        yield pieces.matrix([["7919", *rows[0][1:]], *rows[1:]], found[1])
        yield pieces.matrix([*rows[:-1], [*rows[-1][:-1], f"{rows[-1][-1]} + 1"]], found[1])
        yield pieces.matrix([[f"2({cell}) - 1" if cell != "1" else "7" for cell in row] for row in rows], found[1])


@rule
def relation_turned(gold: str) -> Iterator[str]:
    for a, b in ((r"\le", r"\ge"), (r"\ge", r"\le"), (r"\leq", r"\geq"), (r"\geq", r"\leq"), ("<", ">"), (">", "<")):
        found = re.search(re.escape(a) + r"(?![a-z])", gold)
        if found and pieces.kind(gold) == "relation":
            yield gold[: found.start()] + b + gold[found.end() :]
            yield (
                gold[: found.start()] + (r" \le " if a == "<" else r" \ge " if a == ">" else "<" if "l" in a else ">") + gold[found.end() :]
            )


@rule
def side_changed(gold: str) -> Iterator[str]:
    if pieces.kind(gold) == "relation" and "=" in gold:
        yield f"{gold} + 1"
        yield gold.rpartition("=")[2] + " + 1"
        yield gold.replace("=", "<", 1)
        yield gold.replace("=", r"\ne ", 1)


@rule
def end_moved(gold: str) -> Iterator[str]:
    if pieces.kind(gold) == "interval":
        yield re.sub(r"(?<=[(\[])(-?)\\infty", "-7919", gold, count=1)
        yield re.sub(r"\\infty(?=\\?(?:right)?[)\]]$)", "7919", gold)
        reaches = gold.replace("\\right", "").replace(" ", "").rstrip(".").endswith(r"\infty)")
        yield f"{gold} \\cup (7919, 7920)" if not reaches else rf"{gold} \setminus \{{7919\}}"
        yield f"{gold} \\cup \\{{-7919\\}}" if "-\\infty" not in gold else rf"{gold} \setminus \{{-7919\}}"


@rule
def words(gold: str) -> Iterator[str]:
    """Letters reversed, changed, swapped; words in another order; a word before, one after."""
    if pieces.kind(gold) == "words":
        found = pieces.TEXT.search(gold)
        inner = found[1] if found else gold
        others = [inner[::-1], inner[1:], inner[:-1], inner + " not", f"not {inner}", inner + inner[-1], f"q{inner}"]
        others += [re.sub(r"([A-Za-z])(?!\1)([A-Za-z])", r"\2\1", inner, count=1), " ".join(inner.split()[::-1])]
        others += [re.sub("[a-z]", lambda match: "b" if match[0] != "b" else "c", inner, count=1)]
        for other in others:
            if letters(other) != letters(inner) and other.strip():
                yield gold.replace(inner, other) if inner.strip() else other


def letters(text: str) -> str:
    """A text's letters and digits only, in lower case."""
    return re.sub(r"[\W_]", "", text.lower())


@rule
def choices(gold: str) -> Iterator[str]:
    """Other letters, more letters, the letter as a variable's."""
    if pieces.kind(gold) == "choice":
        letter = re.sub(r"\\text(?:bf)?|[(){}]", "", gold)
        others = [other for other in "ABCDE" if other != letter]
        yield from others
        yield from (
            f"{letter}, {others[0]}",
            f"{others[0]} or {letter}",
            f"({others[1]})",
            rf"\text{{{others[2]}}}",
            f"{others[0]}{letter}",
        )


@rule
def unit_changed(gold: str) -> Iterator[str]:
    if found := re.search(
        r"\\(?:text|mbox)\s?\{\s?(?:square |sq |cubic )?(cm|m|feet|inches|units|degrees|meters|miles|cents|dollars|hours)\b", gold
    ):
        yield gold[: found.start(1)] + "parsecs" + gold[found.end(1) :]


@rule
def words_in_a_formula(gold: str) -> Iterator[str]:
    """Answers that mix words and formulas: another last word, and completely different answers."""
    if pieces.kind(gold) in ("mixed", "choices"):
        yield f"7919 + {gold}"
        yield r"\text{none}"
        yield "7919"
        yield f"-7919, {gold}"
        yield "(7919, 1)"
        yield "q"


@rule
def other_kinds(gold: str) -> Iterator[str]:
    """An answer of another kind, if the rules above find little to change."""
    yield "7919" if gold != "7919" else "7907"
    yield r"\frac{7907}{7919}"
    yield "-7919"
    yield "(7907, 7919)"
    yield r"\text{unknown}"
    yield r"\begin{pmatrix} 7907 & 7919 \end{pmatrix}"
    yield "[7907, 7919)"
    yield r"7919 \sqrt{7907}"
