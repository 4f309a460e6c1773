"""Normalizes the text before it is split into tokens: frames, Unicode and Chinese signs, thousands and currencies become plain LaTeX."""

from __future__ import annotations

import re

from mathquarry.data.grade.reading.rewrites import rewritten
from mathquarry.data.grade.reading.spoken import fractions_in_digits

MAX_CHARACTERS = 1000
"""Longer answers are not parsed at all; the longest gold answer of GSM8K and MATH has 159 characters."""

FULL_WIDTH = str.maketrans({chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)} | {"。": ".", "\u3000": " ", "\u00a0": " "})

_UNICODE = {
    "−": "-",
    "–": "-",
    "—": "-",
    "‐": "-",
    "﹣": "-",
    "∶": ":",
    "∞": r"\infty ",
    "¢": r"\text{ cents}",
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
    "㎜": r"\text{ mm}",
    "㎝": r"\text{ cm}",
    "㎞": r"\text{ km}",
    "㎎": r"\text{ mg}",
    "㎏": r"\text{ kg}",
    "㎡": r"\text{ m}^2",
    "㎥": r"\text{ m}^3",
    "Ω": r"\Omega ",
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
    "₹": "Rs ",
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

_CIRCLED = re.compile(r"\\(?:text)?circled\s?\{?([1-9])\}?")

_PHANTOM = re.compile(r"\\[hv]?phantom\s{0,3}(?:\{[^{}]{0,40}\}|\\[a-zA-Z]+|[^\\{}])")

_ANNOUNCED = re.compile(
    r"^(?:(?:所以|因此|故)?(?:最终)?(?:答案|结果)\s?(?:应?[是为]|:)[:\s]{0,3}|(?:一共|总共|共|大约|约)?[有是为]?\s?(?=-?[\d\\]))"
)
_CLOSING_WORDS = re.compile(r"\s{0,3}(?:\\text\s?\{\s{0,3})?\bis (?:the|our|my) (?:final |correct )?answer\.?\}?$")
_BOX = re.compile(r"\\(?:boxed|fbox)\s{0,3}\{")


def tidy(text: str) -> str:
    """An answer without its frame: full width, a box, math dollar signs, Markdown bold marks, a final period."""
    text = _ANNOUNCED.sub("", text.translate(FULL_WIDTH).strip())
    while len(text) > 4 and text.startswith("**") and text.endswith("**"):
        text = text[2:-2].strip()
    if len(text) > 2 and text[0] == text[-1] and text[0] in "`\"'" and text.count(text[0]) == 2:
        text = text[1:-1].strip()
    text = _CLOSING_WORDS.sub("", text)
    while (inner := _unboxed(text)) != text:
        text = inner.strip()
    for opening, closing in ((r"\(", r"\)"), (r"\[", r"\]"), ("$$", "$$"), ("$", "$")):
        if (
            len(text) > len(opening + closing)
            and text.startswith(opening)
            and text.endswith(closing)
            and not text.endswith("\\" + closing[-1:] * 2)
        ):
            text = text[len(opening) : -len(closing)].strip()
    # A lone dollar sign is money: it is next to a number, and no other closes it.
    dollars = len(re.findall(r"(?<!\\)\$", text))
    text = re.sub(r"(?<!\\)\$", r"\\$" if dollars == 1 else " ", text)
    text = re.sub(r"\\[()]|(?<!\\)\\[\[\]](?!\d*(?:pt|em|ex|mm))", " ", text) if re.search(r"\\[(\[]", text) else text
    text = text.strip()
    while text and (text[-1] in ".,;:" or (text[-1] == "\\" and not text.endswith("\\\\"))) and not text.endswith("..."):
        text = text[:-1].rstrip()
    return text


def as_latex(text: str) -> str:
    """A tidy answer in LaTeX and ASCII: converts `2又1/2`, `√3`, `x²` and `1 000` to LaTeX."""
    text = _CIRCLED.sub(lambda circled: chr(ord("①") + int(circled[1]) - 1), text.translate(_UNICODE_TABLE))
    for mark, run, table in _SCRIPT_RUNS:
        text = run.sub(rf"{mark}{{\g<0>}}", text).translate(table)
    text = fractions_in_digits(_PHANTOM.sub(" ", text))
    return rewritten(text)


def _unboxed(text: str) -> str:
    """The content of a box around everything, or the unchanged text if there is none."""
    box = _BOX.match(text)
    if box is None or not text.endswith("}") or text.endswith(r"\}"):
        return text
    depth = 0
    for place in range(box.end(), len(text) - 1):
        if text[place - 1] != "\\":
            depth += (text[place] == "{") - (text[place] == "}")
        if depth < 0:
            return text
    return text[box.end() : -1] if depth == 0 else text
