"""Converts presentation MathML to TeX.

Works on `Element`, a plain tree, because renderers write the same structure in different formats (see `rendered.py`).
Source of the vocabulary: https://www.w3.org/TR/MathML3/chapter3.html. An element without a TeX equivalent becomes the row of its
children, so no symbol is lost.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mathquarry.data.extract.symbols import FUNCTIONS, LIMITS, joined, symbols
from mathquarry.data.extract.tables import in_columns, labelled

_BRACKETS = {"(": "pmatrix", "[": "bmatrix", "|": "vmatrix"}
_MATRIX = re.compile(r"([(\[|])\\begin\{matrix\}((?:(?!\\begin).)*?)\\end\{matrix\}[)\]|]")
_BINOMIAL = re.compile(r"\(\{([^{}]*) \\atop ([^{}]*)\}\)")


@dataclass
class Element:
    """An element of a formula: `name` without prefix, the text directly in it, its element children."""

    name: str
    text: str = ""
    children: list[Element] = field(default_factory=list)
    attributes: Mapping[str, str] = field(default_factory=dict)


def to_tex(element: Element) -> str:
    """TeX of a formula; empty if nothing in it is visible."""
    tex = " ".join(_tex(element).split())
    tex = _BINOMIAL.sub(r"\\binom{\1}{\2}", tex)
    return _MATRIX.sub(lambda match: rf"\begin{{{_BRACKETS[match[1]]}}}{match[2]}\end{{{_BRACKETS[match[1]]}}}", tex)


def _tex(element: Element) -> str:
    rule = _RULES.get(element.name)
    return rule(element) if rule else _row(element)


def _row(element: Element) -> str:
    return joined([_tex(child) for child in element.children]) if element.children else symbols(element.text.strip())


def _child(element: Element, place: int) -> str:
    return _tex(element.children[place]) if place < len(element.children) else ""


def _group(tex: str) -> str:
    """Format as the argument of `_` or `^`: with braces unless it is one character."""
    return tex if len(tex) == 1 else f"{{{tex}}}"


def _base(tex: str) -> str:
    """Format as the base of a script: with braces only if the script would otherwise attach to the last part."""
    one = re.fullmatch(r"\\?[^\W_]|\d+|\\[A-Za-z]+|\\[A-Za-z]+\{[^{}]*\}|[)\]|!]|\\[}|]", tex)
    return tex if one or not tex or _in_brackets(tex) else f"{{{tex}}}"


def _in_brackets(tex: str) -> bool:
    """Whether the first bracket closes with the last character, so that a script applies to the whole."""
    depth = 0
    for place, character in enumerate(tex):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return place == len(tex) - 1
    return False


_VARIANTS = {
    "bold": r"\mathbf",
    "bold-italic": r"\mathbf",
    "double-struck": r"\mathbb",
    "fraktur": r"\mathfrak",
    "script": r"\mathcal",
    "sans-serif": r"\mathsf",
    "monospace": r"\mathtt",
}


def _identifier(element: Element) -> str:
    text = _content(element)
    tex = symbols(text)
    command = _VARIANTS.get(element.attributes.get("mathvariant", ""))
    if command and tex:
        return f"{command}{{{tex}}}"
    if text in FUNCTIONS:
        return f"\\{text}"
    return f"\\mathrm{{{tex}}}" if len(text) > 1 and text.isascii() and text.isalpha() else tex


def _operator(element: Element) -> str:
    text = _content(element)
    if text in FUNCTIONS:
        return f"\\{text}"
    tex = symbols(text)
    if len(text) > 1 and text.isascii() and text.isalpha():
        return rf" \operatorname{{{tex}}} "
    alone = re.fullmatch(r"\\[A-Za-z]+", tex) and tex not in LIMITS and not tex.startswith((r"\int", r"\partial", r"\nabla"))
    return f" {tex} " if alone else tex


def _number(element: Element) -> str:
    return symbols(_content(element))


def _text(element: Element) -> str:
    text = " ".join(_all_text(element).split("\n"))
    if not text.strip():
        return r"\ " if text else ""
    return f"\\text{{{text}}}"


def _content(element: Element) -> str:
    return " ".join(_all_text(element).split())


def _all_text(element: Element) -> str:
    return element.text + "".join(_all_text(child) for child in element.children)


def _fraction(element: Element) -> str:
    top, bottom = _child(element, 0), _child(element, 1)
    if re.fullmatch(r"0+(\.0+)?[a-z]*", element.attributes.get("linethickness", "")):
        return rf"{{{top} \atop {bottom}}}"
    return rf"\frac{{{top}}}{{{bottom}}}"


def _square_root(element: Element) -> str:
    return rf"\sqrt{{{_row(element)}}}"


def _root(element: Element) -> str:
    return rf"\sqrt[{_child(element, 1)}]{{{_child(element, 0)}}}"


def _scripts(base: str, sub: str, sup: str) -> str:
    sub, sup = sub.strip(), sup.strip()
    primes = set(sup) == {"'"}
    return joined([base, f"_{_group(sub)}" if sub else "", (sup if primes else f"^{_group(sup)}") if sup else ""])


def _sub(element: Element) -> str:
    return _scripts(_base(_child(element, 0).strip()), _child(element, 1), "")


def _sup(element: Element) -> str:
    return _scripts(_base(_child(element, 0).strip()), "", _child(element, 1))


def _subsup(element: Element) -> str:
    return _scripts(_base(_child(element, 0).strip()), _child(element, 1), _child(element, 2))


_ACCENTS = {
    "¯": r"\overline", "‾": r"\overline", "_": r"\overline", "^": r"\hat", "ˆ": r"\hat", "̂": r"\hat", "~": r"\tilde", "˜": r"\tilde",
    "∼": r"\tilde", "→": r"\vec", "⃗": r"\vec", "˙": r"\dot", ".": r"\dot", "¨": r"\ddot", "ˇ": r"\check", "˘": r"\breve", "´": r"\acute",
    "`": r"\grave", "⏞": r"\overbrace", "←": r"\overleftarrow", "̄": r"\bar", "̃": r"\tilde", "̇": r"\dot", "̈": r"\ddot", "―": r"\overline",
    "-": r"\bar", "−": r"\bar", "–": r"\bar",
}  # fmt: skip
_UNDER_ACCENTS = {"_": r"\underline", "̲": r"\underline", "¯": r"\underline", "‾": r"\underline", "⏟": r"\underbrace", "―": r"\underline"}


def _over(element: Element) -> str:
    return _limits(element, None, 1)


def _under(element: Element) -> str:
    return _limits(element, 1, None)


def _underover(element: Element) -> str:
    return _limits(element, 1, 2)


def _limits(element: Element, under: int | None, over: int | None) -> str:
    base = _child(element, 0).strip()
    below = _child(element, under).strip() if under is not None else ""
    above = _child(element, over).strip() if over is not None else ""
    name = base.split("{")[0].strip()
    if name in LIMITS or name.startswith((r"\int", r"\oint", r"\iint", r"\operatorname", r"\underbrace", r"\overbrace")):
        return _scripts(base, below, above)
    if below:
        accent = _UNDER_ACCENTS.get(_content(element.children[under or 0]))
        base = f"{accent}{{{base}}}" if accent else rf"\underset{{{below}}}{{{base}}}"
    if above:
        accent = _ACCENTS.get(_content(element.children[over or 0]))
        if accent == r"\bar" and re.fullmatch(r"[^\\].+", base):  # a stretched dash
            accent = r"\overline"
        base = f"{accent}{{{base}}}" if accent else rf"\overset{{{above}}}{{{base}}}"
    return base


def _multiscripts(element: Element) -> str:
    names = [child.name for child in element.children]
    split = names.index("mprescripts") if "mprescripts" in names else len(names)
    after, before = element.children[1:split], element.children[split + 1 :]
    parts = [_scripts("{}", *map(_tex, pair)) for pair in zip(before[::2], before[1::2], strict=False)]
    parts.append(_base(_child(element, 0).strip()))
    parts += [_scripts("", *map(_tex, pair)) for pair in zip(after[::2], after[1::2], strict=False)]
    return joined(parts)


def _fenced(element: Element) -> str:
    left, right = element.attributes.get("open", "("), element.attributes.get("close", ")")
    separators = element.attributes.get("separators", ",").replace(" ", "")
    parts = [symbols(left)]
    for place, child in enumerate(element.children):
        if place and separators:
            parts.append(separators[min(place - 1, len(separators) - 1)])
        parts.append(_tex(child))
    return joined([*parts, symbols(right)])


def _table(element: Element) -> str:
    rows: list[list[str]] = []
    labels: list[str] = []
    for row in element.children:
        if row.name in ("mtr", "mlabeledtr"):
            has_label = row.name == "mlabeledtr" and len(row.children) > 1
            rows.append([_row(cell).strip() for cell in row.children[has_label:]])
            labels.append(_content(row.children[0]) if has_label else "")
    environment, lines = in_columns(rows, _alignment(element))
    return labelled(environment, lines, labels)


def _alignment(element: Element) -> list[str]:
    """Alignment of a table's columns from the table, or else from the cells of its first row."""
    stated = element.attributes.get("columnalign", "").lower().split()
    rows = [row for row in element.children if row.name in ("mtr", "mlabeledtr")]
    if not stated and rows:
        cells = rows[0].children[1:] if rows[0].name == "mlabeledtr" else rows[0].children
        stated = [cell.attributes.get("columnalign", "").lower() for cell in cells]
    return stated


def _enclosed(element: Element) -> str:
    notation = element.attributes.get("notation", "longdiv")
    inner = _row(element)
    if "box" in notation:
        return rf"\boxed{{{inner}}}"
    if "strike" in notation:
        return rf"\cancel{{{inner}}}"
    if notation == "top":
        return rf"\overline{{{inner}}}"
    return rf"\sqrt{{{inner}}}" if "radical" in notation else inner


def _first(element: Element) -> str:
    return _child(element, 0)


def _space(element: Element) -> str:
    width = re.match(r"([\d.]+)\s*(em|ex|px|pt)?", element.attributes.get("width", ""))
    return r"\quad " if width and float(width[1] or 0) >= 1 and width[2] == "em" else ""


def _nothing(element: Element) -> str:
    return ""


_RULES: dict[str, Callable[[Element], str]] = {
    "mi": _identifier,
    "mo": _operator,
    "mn": _number,
    "mtext": _text,
    "ms": _text,
    "mfrac": _fraction,
    "msqrt": _square_root,
    "mroot": _root,
    "msub": _sub,
    "msup": _sup,
    "msubsup": _subsup,
    "mover": _over,
    "munder": _under,
    "munderover": _underover,
    "mmultiscripts": _multiscripts,
    "mfenced": _fenced,
    "mtable": _table,
    "menclose": _enclosed,
    "semantics": _first,
    "maction": _first,
    "mspace": _space,
    **dict.fromkeys(("mphantom", "none", "mprescripts", "annotation", "annotation-xml", "mglyph"), _nothing),
}
