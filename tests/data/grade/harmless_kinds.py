"""Harmless spellings of one kind of answer: numbers, matrices, lists, sets, intervals, relations, words, units."""

from __future__ import annotations

import re

from tests.data.grade import pieces
from tests.data.grade.rules import RULES, rule

_DOLLARS = re.compile(r"\\\$ ?([\d.,\\!]+)")
_SIGN = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le", r"\leq": r"\geq", r"\geq": r"\leq"}


@rule
def grouped(gold: str) -> str | None:
    number = pieces.value(gold)
    return f"{int(number):,}" if number is not None and number.denominator == 1 and abs(number) >= 1000 else None


@rule
def grouped_by_braces(gold: str) -> str | None:
    return found.replace(",", "{,}") if (found := grouped(gold)) else None


@rule
def grouped_by_thin_spaces(gold: str) -> str | None:
    return found.replace(",", r"\,") if (found := grouped(gold)) else None


@rule
def grouped_by_spaces(gold: str) -> str | None:
    return found.replace(",", " ") if (found := grouped(gold)) else None


@rule
def ungrouped(gold: str) -> str | None:
    return gold.replace(",\\!", "").replace(",", "") if pieces.value(gold) is not None and "," in gold else None


@rule
def zero_behind_the_point(gold: str) -> str | None:
    if re.fullmatch(r"-?\d+\.\d+", gold):
        return gold + "0"
    return gold + ".0" if re.fullmatch(r"-?\d+", gold) else None


@rule
def point_without_zero(gold: str) -> str | None:
    return gold.replace("0.", ".") if re.fullmatch(r"-?0\.\d+", gold) else None


@rule
def unreduced(gold: str) -> str | None:
    number = pieces.value(gold)
    if number is None:
        return None
    return rf"\frac{{{number.numerator * 6}}}{{{number.denominator * 6}}}"


@rule
def slash(gold: str) -> str | None:
    number = pieces.value(gold)
    return None if number is None else f"{number.numerator}/{number.denominator}"


@rule
def minus_in_the_fraction(gold: str) -> str | None:
    number = pieces.value(gold)
    return None if number is None or number >= 0 else rf"\frac{{{number.numerator}}}{{{number.denominator}}}"


@rule
def mixed_number(gold: str) -> str | None:
    number = pieces.value(gold)
    if number is None or abs(number) < 1 or number.denominator == 1:
        return None
    whole, over = divmod(abs(number.numerator), number.denominator)
    return rf"{'-' if number < 0 else ''}{whole}\frac{{{over}}}{{{number.denominator}}}"


@rule
def mixed_number_in_Chinese(gold: str) -> str | None:
    number = pieces.value(gold)
    if number is None or number < 1 or number.denominator == 1:
        return None
    whole, over = divmod(number.numerator, number.denominator)
    return f"{whole}又{number.denominator}分之{over}"


@rule
def decimal(gold: str) -> str | None:
    number = pieces.value(gold)
    return None if number is None or number.denominator == 1 else pieces.decimal(number)


@rule
def repeating_decimal(gold: str) -> str | None:
    number = pieces.value(gold)
    return None if number is None or number.denominator == 1 else pieces.cycle(number)


@rule
def scientific(gold: str) -> str | None:
    if not re.fullmatch(r"[1-9]\d*", gold):
        return None
    return rf"{gold[0]}.{gold[1:] or '0'} \times 10^{{{len(gold) - 1}}}"


@rule
def computer_notation(gold: str) -> str | None:
    return f"{gold[0]}.{gold[1:] or '0'}e{len(gold) - 1}" if re.fullmatch(r"[1-9]\d*", gold) else None


@rule
def square_brackets_of_a_matrix(gold: str) -> str | None:
    return gold.replace("pmatrix", "bmatrix") if pieces.kind(gold) == "matrix" and "vmatrix" not in gold else None


@rule
def array(gold: str) -> str | None:
    found = pieces.MATRIX.fullmatch(gold.strip(" ."))
    if not found or found[1][0] in "vV":
        return None
    rows = pieces.cells(found[2])
    body = r" \\ ".join(" & ".join(row) for row in rows)
    return rf"\left[\begin{{array}}{{{'c' * len(rows[0])}}} {body} \end{{array}}\right]"


@rule
def matrix_in_brackets(gold: str) -> str | None:
    return gold.replace("{pmatrix}", "{matrix}").join(("(", ")")) if "{pmatrix}" in gold and pieces.kind(gold) == "matrix" else None


@rule
def narrow_matrix(gold: str) -> str | None:
    found = pieces.MATRIX.fullmatch(gold.strip(" ."))
    return pieces.matrix(pieces.cells(found[2]), found[1], "&", r"\\") if found else None


@rule
def last_row_closed(gold: str) -> str | None:
    found = pieces.MATRIX.fullmatch(gold.strip(" ."))
    return gold.replace(r"\end{", r"\\ \end{") if found else None


@rule
def column_as_a_tuple(gold: str) -> str | None:
    found = pieces.MATRIX.fullmatch(gold.strip(" ."))
    if not found or found[1][0] in "vV" or any(len(row) > 1 for row in pieces.cells(found[2])) or len(pieces.cells(found[2])) < 2:
        return None
    return f"({', '.join(row[0] for row in pieces.cells(found[2]))})"


@rule
def list_in_reverse(gold: str) -> str | None:
    if pieces.kind(gold) != "list" or ";" in gold or "=" in gold:
        return None
    return ", ".join(pieces.split(gold, ",")[::-1])


@rule
def list_with_and(gold: str) -> str | None:
    if pieces.kind(gold) != "list" or ";" in gold:
        return None
    *first, last = pieces.split(gold, ",")
    return rf"{', '.join(first)} \text{{ and }} {last}"


@rule
def list_in_Chinese(gold: str) -> str | None:
    if pieces.kind(gold) != "list" or ";" in gold or len(pieces.split(gold, ",")) > 2:
        return None
    return "和".join(pieces.split(gold, ","))


@rule
def set_in_reverse(gold: str) -> str | None:
    if pieces.kind(gold) != "set" or re.search(r"\||mid|:|dots", gold):
        return None
    return rf"\{{{', '.join(pieces.split(gold[2:-2], ',')[::-1])}\}}"


@rule
def wide_tuple(gold: str) -> str | None:
    if pieces.kind(gold) != "tuple" or "\\left" in gold:
        return None
    return rf"\left( {' , '.join(pieces.split(gold[1:-1], ','))} \right)"


@rule
def cells_plus_zero(gold: str) -> str | None:
    if pieces.kind(gold) != "tuple" or not gold.startswith("(") or re.search(r"[=_.]|circ|dots", gold):
        return None
    return f"({', '.join(f'0+{part}' if not part.startswith('-') else f'0{part}' for part in pieces.split(gold[1:-1], ','))})"


@rule
def inequality(gold: str) -> str | None:
    found = re.fullmatch(r"([(\[])([^,()\[\]]+),([^,()\[\]]+)([)\]])", gold.replace("\\left", "").replace("\\right", ""))
    if not found or pieces.kind(gold) != "interval" or "\\in" in gold.replace("\\infty", ""):
        return None
    left = "" if "infty" in found[2] else f"{found[2]} {'<' if found[1] == '(' else '≤'} "
    right = "" if "infty" in found[3] else f" {'<' if found[4] == ')' else '≤'} {found[3]}"
    return f"{left}x{right}" if left or right else r"\mathbb{R}"


@rule
def turned_relation(gold: str) -> str | None:
    found = re.fullmatch(r"([^<>=\\]+|[^<>=]*?) ?(<|>|\\[lg]eq?(?![a-z])) ?([^<>=]+)", gold)
    if not found or pieces.kind(gold) != "relation" or re.search(r"\\[lg]eq?(?![a-z])", found[1] + found[3]):
        return None
    return f"{found[3]} {_SIGN[found[2]]} {found[1]}"


@rule
def slanted_relation(gold: str) -> str | None:
    return re.sub(r"\\([lg]e)q?(?![a-z])", r"\\\1qslant ", gold)


@rule
def sides_swapped(gold: str) -> str | None:
    sides = gold.split("=")
    return (
        f"{sides[1]} = {sides[0]}"
        if pieces.kind(gold) == "relation" and len(sides) == 2 and "%" not in gold and not re.search("[<>]|neq?", gold)
        else None
    )


@rule
def bare_words(gold: str) -> str | None:
    found = pieces.TEXT.fullmatch(gold.strip())
    return found[1].strip() if found and pieces.kind(gold) in ("words", "choice") else None


@rule
def boxed_words(gold: str) -> str | None:
    return re.sub(r"\\(?:text|mbox)(?=\s?\{)", r"\\textbf", gold)


@rule
def upright_words(gold: str) -> str | None:
    return re.sub(r"\\(?:text|mbox)(?=\s?\{)", r"\\textrm" if " " in gold else r"\\mathrm", gold)


@rule
def capitals(gold: str) -> str | None:
    return gold.upper() if pieces.kind(gold) == "words" and "\\" not in gold else None


@rule
def small_letters(gold: str) -> str | None:
    return gold.lower() if pieces.kind(gold) == "words" else None


@rule
def spaced_words(gold: str) -> str | None:
    return re.sub(r"(\\(?:text|mbox)\s?\{)([^{}]*)(\})", r"\1 \2 \3", gold)


@rule
def without_unit(gold: str) -> str | None:
    found = re.fullmatch(r"(-?[\d.,\\{}a-z ]*?\d[\d.,{}]*?)\s?(?:\\ )?\\(?:text|mbox)\s?\{[^{}]*\}(?:\^\d|\^\{\d\})?", gold)
    return found[1] if found and not re.search("dozen|hundred|thousand|illion|[ap]\\.?m|base|mod", gold) and ":" not in gold else None


@rule
def without_degrees(gold: str) -> str | None:
    return re.sub(r"\^\{?\\circ\}?", "", gold) if re.fullmatch(r"-?[\d.]+\s?\^\{?\\circ\}?", gold) else None


@rule
def degrees_in_words(gold: str) -> str | None:
    return re.sub(r"\^\{?\\circ\}?", r"\\text{ degrees}", gold) if re.fullmatch(r"-?[\d.]+\s?\^\{?\\circ\}?", gold) else None


@rule
def without_currency(gold: str) -> str | None:
    return gold.replace("\\$", "").strip() if gold.startswith("\\$") else None


for _name, _frame in {
    "bare dollar sign": "$%", "dollars in words": "% dollars", "dollars in a text": r"%\text{ dollars}",
    "USD": "% USD",
    "USD before": "USD %",
    "dollars in Chinese": "%美元", "dollar sign behind": r"%\$", "dollars apart": r"\$ %", "bucks": "% bucks",
}.items():  # fmt: skip
    RULES[_name] = lambda gold, frame=_frame: frame.replace("%", money[1]) if (money := _DOLLARS.fullmatch(gold)) else None


@rule
def percent_in_words(gold: str) -> str | None:
    return re.sub(r"\\?%", r"\\text{ percent}", gold) if gold.count("%") == 1 and gold.endswith("%") else None


@rule
def percent_sign(gold: str) -> str | None:
    return gold.replace("\\%", "%") if "\\%" in gold else gold.replace("%", "\\%")


@rule
def as_hundredths(gold: str) -> str | None:
    found = re.fullmatch(r"(-?[\d.]+)\\?%", gold)
    return rf"\frac{{{found[1]}}}{{100}}" if found and "." not in found[1] else None
