"""Rewrites whole notations into plain LaTeX: Chinese numbers, thousands, currencies, sets, units, conditions.

Each rule examines a bounded stretch, so that no input takes quadratic time.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_MONTH = (
    "(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?"
    "|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)"
)


_INTEGER = (
    r"(?:,|\\q?quad|\(|\s){0,3}(?:\\text\s?\{\s{0,3}(?:,\s?)?(?:where|for|with)?\s{0,3}\})?\s{0,3}"
    r"(?:([a-z])\s{0,3}\\text\s?\{\s{0,3}(?:is |are )?(?:an|any)\s{1,3}integer\s{0,3}\}"
    r"|\\text\s?\{\s{0,3}(?:where |for )?(?:any |all |every |an )?integers?\s{0,3}\}\s{0,3}([a-z]))\)?$"
)


def _rows(matrix: re.Match[str]) -> str:
    rows = r" \\ ".join(" & ".join(row.split()) for row in matrix[1].split(";"))
    return rf"\begin{{pmatrix}} {rows} \end{{pmatrix}}"


_REWRITES: list[tuple[str, re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    ("color", re.compile(r"\\(?:text|page)?color(?:box)?\s{0,3}\{[A-Za-z!0-9]{1,30}\}"), " "),
    ("space", re.compile(r"\\[hv]space\*?\s{0,3}\{[^{}]{1,20}\}"), " "),
    ("tag", re.compile(r"\\tag\*?\s?\{[^{}]{1,20}\}"), " "),
    # lines of a system: alignment marks beside relations, and a brace that is drawn on one side
    ("&", re.compile(r"^\s?&|&\s{0,3}(?=[=<>]|\\(?:le|ge|ne|approx)(?:q|qslant)?(?![a-zA-Z]))|(?<=[=<>])\s{0,3}&"), " "),
    (
        "begin",
        re.compile(r"\\left\s?\\\{\s{0,3}\\begin\s?\{(?:array|aligned|align|matrix|split|gathered)\}\s?(?:\{[lcr|\s]{1,9}\})?"),
        r"\\begin{cases}",
    ),
    ("right", re.compile(r"\\end\s?\{(?:array|aligned|align|matrix|split|gathered)\}\s{0,3}\\right\s?\."), r"\\end{cases}"),
    ("over", re.compile(r"^([^{}\\&]{1,30})\\over\s?([^{}\\&]{1,30})$"), r"\\frac{\1}{\2}"),
    ("E", re.compile(r"(?<![A-Za-z\\])E\s?\[([^][]{1,20})\](?=\s?(?:=|\\approx))"), r"E(\1)"),
    ("integer", re.compile(_INTEGER), r", \1\2 \\in \\mathbb{Z}"),
    ("整数", re.compile(r"(?:,|\(|\s){0,3}(?:其中)?\s?([a-z])\s?[为是]整数\)?$"), r", \1 \\in \\mathbb{Z}"),
    (":", re.compile(r"(?<=:\d\d)\s?([AaPp])\.?\s?[Mm]\b\.?"), r"\\text{ \1m}"),
    ("", re.compile(r"(?<=[①-⑨])[\s,和]{1,3}(?=[①-⑨])"), ""),
    # units in signs of their own
    ("Omega", re.compile(r"(?<=\d)(?:\s|\\[,;: ]|~){0,4}\\Omega\s{0,3}$"), r"\\text{ ohm}"),
    ("mu", re.compile(r"\\mu\s?\\(?:text|mathrm)\s?\{\s?([A-Za-z]{1,2})\s?\}"), r"\\text{ micro\1}"),
    ("cent", re.compile(r"\\(?:text)?cent(?![a-zA-Z])"), r"\\text{ cents}"),
    ("$", re.compile(r"(?<![A-Za-z\\])(?:HK|NT|[ACS])\s?(?=\\\$\s?\d)"), ""),
    ("负", re.compile(r"负\s?(?=[\d\\])"), "-"),
    ("根号", re.compile(r"根号\s?"), r"\\sqrt "),
    ("mathbb", re.compile(r"\\mathbb\s?\{?\s?([PE])\s?\}?(?=\s?\()"), r"\1"),
    # the real numbers and the integers in another type, where they can only be sets
    (
        r"\in",
        re.compile(r"(\\in\s{0,3})\\(?:mathbf|mathrm|bf|rm)\s?(?:\{\s?([RZNQC])\s?\}|([RZNQC]))(?![A-Za-z_^\d])"),
        r"\1\\mathbb{\2\3}",
    ),
    (r"\mathbf", re.compile(r"^\\mathbf\s?\{\s?R\s?\}$"), r"\\mathbb{R}"),
    (r"\in", re.compile(r"(\\in\s{0,3})([RZNQC])(?![A-Za-z_^\d(])"), r"\1\\mathbb{\2}"),
    ("U", re.compile(r"([)\]}]\s{0,3})U(?=\s{0,3}(?:\\left\s?)?[(\[\\{])"), r"\1\\cup "),
    # a condition on a whole number in brackets or after a word is a part of the answer after a comma
    (
        "mathbb",
        re.compile(r"(?:,|\\q?quad)?\s{0,3}\(\s{0,3}([a-z])\s{0,3}\\in\s{0,3}(\\mathbb\s?\{?[ZN]\}?)(?:\^[+*]|_\+)?\s{0,3}\)$"),
        r", \1 \\in \2",
    ),
    (
        "mathbb",
        re.compile(
            r"(?:,|\\q?quad)?\s{0,3}\\text\s?\{\s{0,3}(?:where|for|for any|for all|with)\s{0,3}\}\s{0,3}"
            r"([a-z]\s{0,3}\\in\s{0,3}\\mathbb\s?\{?[ZN]\}?)$"
        ),
        r", \1",
    ),
    # combinations with an index before the letter
    ("_", re.compile(r"(?<![\w})\]])(?:\{\})?_\s?\{?(\w{1,3})\}?\s?([CP])_\s?\{?(\w{1,3})\}?"), r"\2_{\1}^{\3}"),
    ("^", re.compile(r"(?<![\w})\]])(?:\{\})?\^\s?\{?(\w{1,3})\}?\s?([CP])_\s?\{?(\w{1,3})\}?"), r"\2_{\1}^{\3}"),
    # days of a month, and ordinals
    (" ", re.compile(rf"(?<!\d)(\d{{1,2}})(?:st|nd|rd|th)? (?:of )?({_MONTH})\b\.?"), r"\2 \1"),
    (
        "",
        re.compile(
            r"(?:(?<=1)st|(?<=2)nd|(?<=3)rd|(?<=\d)th)\b|(?<=\d)\^?\s?\\(?:text|mathrm)\s?\{\s?(?:st|nd|rd|th)\s?\}"
            r"|(?<=\d)\^\s?\{\s?(?:\\(?:text|mathrm|rm)\s?)?\{?\s?(?:st|nd|rd|th)\s?\}?\s?\}"
        ),
        "",
    ),
    # a unit as a fraction of words
    (
        "frac",
        re.compile(
            r"\\[dt]?frac\s?\{\s?\\(?:text|mathrm)\s?\{([^{}]{1,20})\}\s?\}\s?\{\s?\\(?:text|mathrm)\s?\{([^{}]{1,20})\}(\^\s?\{?\d\}?)?\s?\}"
        ),
        r"\\text{\1}/\\text{\2}\3",
    ),
    # rows of a matrix as in MATLAB
    (
        ";",
        re.compile(r"^\[\s?((?:-?[\d./]{1,12} {1,3}){1,6}-?[\d./]{1,12}(?:\s?;\s?(?:-?[\d./]{1,12} {1,3}){1,6}-?[\d./]{1,12}){1,6})\s?\]$"),
        _rows,
    ),
    ("又", re.compile(r"(\d) {0,3}又 {0,3}(\d{1,20}) {0,3}分之 {0,3}(\d{1,20})"), r"\1 \3/\2"),
    ("又", re.compile(r"(\d) {0,3}又"), r"\1 "),
    ("百分之", re.compile(r"百分之 {0,3}(\d{1,20}(?:\.\d{1,20})?)"), r"\1\\%"),
    ("分之", re.compile(r"(\d{1,20}) {0,3}分之 {0,3}(\d{1,20})"), r"\2/\1"),
    ("每", re.compile(r"^每\s?([\u4e00-\u9fff]{1,3}?)\s?(\d{1,20}(?:\.\d{1,20})?)\s?([\u4e00-\u9fff]{1,4})$"), r"\2\3/\1"),
    # open intervals with brackets turned outwards
    ("]", re.compile(r"(?:^|(?<=cup)|(?<=in))(\s{0,3})\]([^][(){}]{1,40},[^][(){}]{1,40})\["), r"\1(\2)"),
    ("]", re.compile(r"(?:^|(?<=cup)|(?<=in))(\s{0,3})\]([^][(){}]{1,40},[^][(){}]{1,40})\]"), r"\1(\2]"),
    ("[", re.compile(r"(?:^|(?<=cup)|(?<=in))(\s{0,3})\[([^][(){}]{1,40},[^][(){}]{1,40})\["), r"\1[\2)"),
    ("x", re.compile(r"(?<=\d)\s?x\s?(?=10\s?(?:\^|\*\*))"), r"\\times "),
    ("'", re.compile(r"(?<![\d'.])(\d{1,3})'(\d{3})(?=(?:'\d{3})*(?![\d'])(?:[^']|$))"), "\\1\u2060\\2"),
    ("'", re.compile(r"(?<=\u2060)(\d{3})'(?=\d{3}(?!\d))"), "\\1\u2060"),
    (".", re.compile(r"(?<![\d.,])(\d{1,3})\.(\d{3})\.(\d{3})(?![\d.])"), r"\1\2\3"),
    # the code of a currency before the number
    ("US", re.compile(r"(?<![A-Za-z])(?:USD(?=\s{0,3}[\d.\\$])|US\s?(?=\\\$))"), r"\\$"),
    ("R", re.compile(r"(?<![A-Za-z])(?:Rs\.?|INR)\s{0,3}(\d[\d,]{0,20}(?:\.\d{1,20})?)"), r"\1\\text{ rupees}"),
    ("EUR", re.compile(r"(?<![A-Za-z])EUR(?=\s{0,3}[\d.])"), "€"),
    ("GBP", re.compile(r"(?<![A-Za-z])GBP(?=\s{0,3}[\d.])"), "£"),
    ("RMB", re.compile(r"(?<![A-Za-z])RMB(?=\s{0,3}[\d.])"), "¥"),
    ("CNY", re.compile(r"(?<![A-Za-z])CNY(?=\s{0,3}[\d.])"), "¥"),
    ("$", re.compile(r"\\\$\s{0,3}(?=\\\$)"), ""),
    # thousands: a comma or a thin space with extra spacing, and plain spaces between groups of three
    ("", re.compile(r"(?<=\d)(?:\s?\{\s?,\s?\}|,\s?\\!|\\!,|\\,|\\;|\\:|\\ |~)\s{0,3}(?=\d{3}(?!\d))"), "\u2060"),
    (" ", re.compile(r"(?<![\d.,^_/}])(\d{1,3}) (?=\d{3}(?: \d{3})*(?![\d,/]|\.(?!\d)|\\d?t?frac)(?=[^\d]|$))"), "\\1\u2060"),
    ("\u2060", re.compile(r"(?<=\u2060)(\d{3}) (?=\d{3}(?!\d))"), "\\1\u2060"),
    ("{", re.compile(r"(?<=\d)\{\s?\.\s?\}(?=\d)"), "."),
]
"""What a text must contain for the rule to apply, the notation, and its LaTeX."""

_JOINER = re.compile("\u2060")


def rewritten(text: str) -> str:
    """The text with every notation above rewritten."""
    for sign, pattern, replacement in _REWRITES:
        if sign in text:
            text = pattern.sub(replacement, text)
    return _JOINER.sub("", text)
