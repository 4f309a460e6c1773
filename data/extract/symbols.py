"""Converts Unicode mathematics to TeX: symbols, letters in mathematical alphabets, and function names."""

from __future__ import annotations

import re
import unicodedata

FUNCTIONS = frozenset({
    "arccos", "arcsin", "arctan", "arg", "cos", "cosh", "cot", "coth", "csc", "deg", "det", "dim", "exp", "gcd", "hom", "inf", "ker",
    "lg", "lim", "liminf", "limsup", "ln", "log", "max", "min", "Pr", "sec", "sin", "sinh", "sup", "tan", "tanh",
})  # fmt: skip
"""Names that TeX has a command for."""
LIMITS = frozenset({
    r"\sum", r"\prod", r"\coprod", r"\lim", r"\liminf", r"\limsup", r"\max", r"\min", r"\inf", r"\sup", r"\det", r"\gcd", r"\Pr",
    r"\bigcup", r"\bigcap", r"\bigoplus", r"\bigotimes", r"\bigvee", r"\bigwedge",
})  # fmt: skip
"""Operators with limits below and above, for which `_` and `^` mean the same as under and over."""

_GREEK = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon phi chi psi omega"
_CAPITALS = {"Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega"}
_SYMBOLS = {
    "−": "-", "∕": "/", "∗": "*", "×": r"\times", "÷": r"\div", "±": r"\pm", "∓": r"\mp", "·": r"\cdot", "⋅": r"\cdot", "∘": r"\circ",
    "∙": r"\bullet", "•": r"\bullet", "⋆": r"\star", "†": r"\dagger", "⊕": r"\oplus", "⊖": r"\ominus", "⊗": r"\otimes", "⊙": r"\odot",
    "≤": r"\le", "≥": r"\ge", "⩽": r"\leqslant", "⩾": r"\geqslant", "≠": r"\ne", "≡": r"\equiv", "≢": r"\not\equiv", "≈": r"\approx",
    "≅": r"\cong", "≃": r"\simeq", "∼": r"\sim", "∝": r"\propto", "≪": r"\ll", "≫": r"\gg", "≺": r"\prec", "≻": r"\succ",
    "≐": r"\doteq", "∈": r"\in", "∉": r"\notin", "∋": r"\ni", "⊂": r"\subset", "⊃": r"\supset", "⊆": r"\subseteq", "⊇": r"\supseteq",
    "⊊": r"\subsetneq", "∪": r"\cup", "∩": r"\cap", "∖": r"\setminus", "∅": r"\emptyset", "⌀": r"\emptyset", "∧": r"\wedge",
    "∨": r"\vee", "¬": r"\neg", "∀": r"\forall", "∃": r"\exists", "∄": r"\nexists", "⊢": r"\vdash", "⊨": r"\models", "⊤": r"\top",
    "⊥": r"\perp", "∥": r"\parallel", "∣": r"\mid", "∤": r"\nmid", "‖": r"\|", "→": r"\to", "←": r"\leftarrow", "↔": r"\leftrightarrow",
    "⇒": r"\Rightarrow", "⇐": r"\Leftarrow", "⇔": r"\Leftrightarrow", "⟹": r"\implies", "⟸": r"\impliedby", "⟺": r"\iff",
    "↦": r"\mapsto", "⟶": r"\longrightarrow", "⟵": r"\longleftarrow", "↪": r"\hookrightarrow", "↠": r"\twoheadrightarrow",
    "↑": r"\uparrow", "↓": r"\downarrow", "⇀": r"\rightharpoonup", "⇌": r"\rightleftharpoons", "∑": r"\sum", "∏": r"\prod",
    "∐": r"\coprod", "∫": r"\int", "∬": r"\iint", "∭": r"\iiint", "∮": r"\oint", "⋃": r"\bigcup", "⋂": r"\bigcap", "⨁": r"\bigoplus",
    "⨂": r"\bigotimes", "⋁": r"\bigvee", "⋀": r"\bigwedge", "∂": r"\partial", "∇": r"\nabla", "√": r"\surd", "∞": r"\infty",
    "…": r"\ldots", "⋯": r"\cdots", "⋮": r"\vdots", "⋱": r"\ddots", "′": "'", "″": "''", "‴": "'''", "°": r"^{\circ}", "ℏ": r"\hbar",
    "ℓ": r"\ell", "ℜ": r"\Re", "ℑ": r"\Im", "ℵ": r"\aleph", "℘": r"\wp", "∠": r"\angle", "△": r"\triangle", "□": r"\square",
    "◻": r"\square", "∎": r"\blacksquare", "⟨": r"\langle", "⟩": r"\rangle", "〈": r"\langle", "〉": r"\rangle", "⌊": r"\lfloor",
    "⌋": r"\rfloor", "⌈": r"\lceil", "⌉": r"\rceil", "∴": r"\therefore", "∵": r"\because", "≔": ":=", "∶": ":", "ⅆ": "d", "ⅇ": "e",
    "ⅈ": "i", "ϵ": r"\epsilon", "ε": r"\varepsilon", "ϑ": r"\vartheta", "ϕ": r"\phi", "φ": r"\varphi", "ϱ": r"\varrho",
    "ς": r"\varsigma", "ϖ": r"\varpi", "\u00a0": " ", "{": r"\{", "}": r"\}", "%": r"\%", "#": r"\#", "&": r"\&", "$": r"\$",
    "_": r"\_", "\\": r"\backslash",
}  # fmt: skip
_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\u2061\u2062\u2063\u2064\ufeff\ufe00"))
_ALPHABETS = (
    ("DOUBLE-STRUCK", r"\mathbb"),
    ("FRAKTUR", r"\mathfrak"),
    ("BLACK-LETTER", r"\mathfrak"),
    ("SCRIPT", r"\mathcal"),
    ("SANS-SERIF", r"\mathsf"),
    ("MONOSPACE", r"\mathtt"),
    ("BOLD", r"\mathbf"),
)
for _place, _name in enumerate(_GREEK.split()):
    # There is a final sigma between rho and sigma.
    _shift = _place + (_place >= 17)
    _SYMBOLS.setdefault(chr(0x3B1 + _shift), "o" if _name == "omicron" else f"\\{_name}")
    _capital = _name.capitalize()
    if _capital in _CAPITALS:
        _SYMBOLS[chr(0x391 + _shift)] = f"\\{_capital}"

_COMMAND_END = re.compile(r"\\[A-Za-z]+$")


def symbol(character: str) -> str:
    """TeX of one character, or the character itself if TeX needs nothing special."""
    if (known := _SYMBOLS.get(character)) is not None:
        return known
    if character.isascii():
        return character
    name = unicodedata.name(character, "")
    if name.startswith("MATHEMATICAL ") or (name.startswith(("DOUBLE-STRUCK ", "SCRIPT ", "BLACK-LETTER ")) and len(name.split()) < 5):
        letter = unicodedata.normalize("NFKC", character)
        if letter == character:  # a sign that is mathematical only by its name
            return character
        plain = "".join(map(symbol, letter))
        alphabet = next((command for mark, command in _ALPHABETS if mark in name), None)
        return f"{alphabet}{{{plain}}}" if alphabet else plain
    return character


def symbols(text: str) -> str:
    """TeX of several characters, without invisible operators."""
    return joined([symbol(character) for character in text.translate(_INVISIBLE)])


def joined(parts: list[str]) -> str:
    """Concatenate the parts, with a space where a letter would otherwise become part of a command."""
    result = ""
    for part in parts:
        if part and part[0].isalpha() and _COMMAND_END.search(result):
            result += " "
        result += part
    return result
