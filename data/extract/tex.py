"""Cleans TeX source from attributes, addresses and annotations into one line."""

from __future__ import annotations

import re

LONGEST = 4000
"""Characters; a longer "formula" comes from a missing delimiter, and stays text."""

_DELIMITED = re.compile(r"\\\((.*)\\\)|\\\[(.*)\\\]|\$\$(.*)\$\$|\$(.*)\$", re.DOTALL)
_STYLED = re.compile(r"\{\s*\\(?:displaystyle|textstyle)\b(.*)\}", re.DOTALL)
# Directives to image services besides the formula: resolution, colors, fonts, sizes.
_DIRECTIVE = re.compile(
    r"(?:\\(?:dpi|bg|fg|fn|opacity)(?:\s*\{[^}]*\}|_\w+)"
    r"|\\(?:inline|tiny|small|normalsize|large|Large|LARGE|huge|Huge|displaystyle|textstyle)(?![A-Za-z]))\s*"
)


def tidy(tex: str) -> tuple[str, bool]:
    """The formula without delimiters, comments, style wrappers and line breaks, and whether it was delimited as display math."""
    if "%" in tex:
        tex = re.sub(r"(?<!\\)%[^\n]*(?:\n|$)", "", tex)
    tex = " ".join(tex.split())
    display = False
    if tex.startswith(("$", "\\")) and (match := _DELIMITED.fullmatch(tex)):
        display = match[2] is not None or match[3] is not None
        tex = next(group for group in match.groups() if group is not None).strip()
    if tex.startswith("{") and (match := _STYLED.fullmatch(tex)) and _balanced(match[1]):
        tex = match[1].strip()
    return tex, display


def strip_directives(tex: str) -> str:
    """The formula in an image's address, without directives to the image service."""
    tex = tex.replace("&plus;", "+").replace("&space;", " ").strip()
    while match := _DIRECTIVE.match(tex):
        tex = tex[match.end() :]
    return tex


def _balanced(tex: str) -> bool:
    """Whether no brace closes before it opens, so that the removed outer braces were a pair."""
    depth = 0
    for character in re.sub(r"\\.", "", tex):
        depth += (character == "{") - (character == "}")
        if depth < 0:
            return False
    return depth == 0
