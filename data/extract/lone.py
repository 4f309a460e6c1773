"""Text nodes of one character, which resiliparse's search for the main content loses.

It drops every text node of exactly three UTF-8 bytes between ASCII white space: one character from U+0800 to U+FFFF, such as `≤`, `−`, `∈`
or any Chinese character, kana or hangul between two tags (resiliparse 2.0.1). A mark beside the character makes the node longer; it is put
in before the page is parsed and taken out of the text.
"""

from __future__ import annotations

import html
import re

MARK = "\ue006"
"""A private-use character. Pages have none when they come here, or lose them first."""

_SPACE = " \t\n\r\f\v"
_LONE = re.compile(rf"(>[{_SPACE}]*+)([\u0800-\uffff]|&[#\w]{{2,32}};?)(?=[{_SPACE}]*+(?:<|\Z))")


def marked(page: str) -> str:
    """The HTML of a page with a mark behind every character that is a text node by itself, written out or as an entity."""
    # With one tag more, text at the very beginning stands behind a tag too, and the expression begins with a plain character: that is fast.
    return _LONE.sub(_mark, f">{page}")[1:]


def unmarked(text: str) -> str:
    """Text without marks."""
    return text.replace(MARK, "") if MARK in text else text


def _mark(match: re.Match[str]) -> str:
    character = html.unescape(match[2]) if match[2].startswith("&") else match[2]
    lone = len(character) == 1 and "\u0800" <= character <= "\uffff"
    return f"{match[1]}{match[2]}{MARK}" if lone else match[0]
