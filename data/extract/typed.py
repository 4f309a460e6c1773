"""TeX typed into running text: `$..$`, `$$..$$`, `\\(..\\)`, `\\[..\\]`, environments, forum tags such as `[tex]..[/tex]`.

A dollar sign counts as money unless it is clearly a delimiter. A pair of single dollars is a formula if both are on one
line, the first is not preceded by a letter, a digit or a backslash and not followed by a space, the second is not preceded
by a space and not followed by a digit, and the text between is not a run of words. So "$5 and $10" stays text.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from mathquarry.data.extract.tex import LONGEST, tidy

_ENVIRONMENTS = "equation|align|alignat|gather|multline|eqnarray|flalign|displaymath|math"
# Every alternative starts with its delimiter and looks behind only then, so the search jumps from delimiter to delimiter.
_TYPED = re.compile(
    rf"""
      \\begin\{{(?P<name>{_ENVIRONMENTS})(?P<star>\*?)\}}(?P<environment>(?:(?!\n\n|\\begin\{{(?P=name)).){{1,{LONGEST}}}?)\\end\{{(?P=name)(?P=star)\}}
    | \$(?<!\\\$)\$(?P<dollars>(?:(?!\n\n|\$\$).){{1,{LONGEST}}}?)\$\$
    | \\(?<!\\\\)\[(?P<bracket>(?:(?!\n\n|\\[][]).){{1,{LONGEST}}}?)\\\]
    | \\(?<!\\\\)\((?P<paren>(?:(?!\n\n|\\[()]).){{1,{LONGEST}}}?)\\\)
    | \[(?P<tag>tex|itex|latex|math)\](?P<forum>(?:(?!\n\n|\[(?P=tag)\]).){{1,{LONGEST}}}?)\[/(?P=tag)\]
    | \$(?<![\\$\w]\$)(?P<dollar>[^\s$](?:(?:\\\$|[^$\n]){{0,{LONGEST}}}?[^\s\\$])?)\$(?![\d$])
    """,
    re.DOTALL | re.VERBOSE,
)
_AMOUNT = re.compile(r"[\d.,]+(?:\s*(?:k|m|bn|million|billion|thousand|USD))?(?:\s*(?:[-–/]|to|and|or|per)\s*.*)?")
_WORDS = re.compile(r"(?<![\\{A-Za-z])[A-Za-z]{2,}\s+[A-Za-z]{2,}(?![A-Za-z}])")
_TEX_SIGNS = re.compile(r"[\\^_=+<>{}|*]")
# Environments that only number or center a formula.
_PLAIN = {"equation", "displaymath", "math"}


def replace_typed(text: str, replacement: Callable[[str, bool, str], str]) -> str:
    """Text with every typed formula replaced by `replacement(tex, display, kind)`."""

    def replace(match: re.Match[str]) -> str:
        if name := match["name"]:
            kind = "typed-environment"
            inner = match["environment"].strip()
            source = inner if name in _PLAIN else f"\\begin{{{name}{match['star']}}}{inner}\\end{{{name}{match['star']}}}"
            display = name != "math"
        else:
            kind, source = f"typed-{match.lastgroup}", match[str(match.lastgroup)]
            display = match["dollars"] is not None or match["bracket"] is not None
            if match["dollar"] and len(source) > 2 and source[0] == source[-1] == "`":
                source = source[1:-1]  # GitLab's $`..`$
        tex, marked = tidy(source)
        if not tex or len(tex) > LONGEST or (match["dollar"] is not None and _is_prose(tex)):
            return match[0]
        return replacement(tex, display or marked, kind)

    # Every formula has one of these, and most texts have none.
    return _TYPED.sub(replace, text) if "$" in text or "\\" in text or "[/" in text else text


def has_typed(text: str) -> bool:
    """Whether `replace_typed` would find a formula in the text."""
    found: list[str] = []
    replace_typed(text, lambda tex, display, kind: found.append(tex) or "")  # type: ignore[func-returns-value]
    return bool(found)


def _is_prose(tex: str) -> bool:
    """Whether the text between two dollars reads as an amount of money or as words."""
    if _TEX_SIGNS.search(tex):
        return False
    return _WORDS.search(tex) is not None or (_AMOUNT.fullmatch(tex) is not None and not re.fullmatch(r"[\d.,]+", tex))
