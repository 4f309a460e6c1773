"""Text nodes of three bytes, which resiliparse's search for the main content loses.

It drops every text node of exactly three UTF-8 bytes, ASCII white space around it aside, whose last byte is no ASCII (resiliparse 2.0.1):
one character from U+0800 to U+FFFF, such as `≤`, `−`, `∈` or any Chinese character, kana or hangul between two tags, and an ASCII character
before one of two bytes, such as `2π`, `x²`, `5°` or `(α`. A mark behind makes the node longer; it is put in before the page is parsed and
taken out of the text.
"""

from __future__ import annotations

import html
import re

MARK = "\ue006"
"""A private-use character. Pages have none when they come here, or lose them first."""

_SPACE = " \t\n\r\f\v"
_ASCII, _TWO_BYTES, _ENTITY = "[!-%'-;=-~]", "[\u0080-\u07ff]", r"&[#\w]{2,32};?"
_LONE = re.compile(
    rf"(>[{_SPACE}]*+)([\u0800-\uffff]|{_ASCII}?{_ENTITY}|{_ASCII}{_TWO_BYTES}|{_ENTITY}(?:{_TWO_BYTES}|{_ENTITY}))(?=[{_SPACE}]*+(?:<|\Z))"
)


def marked(page: str) -> str:
    """The HTML of a page with a mark behind every text node that would be lost, written out or with entities."""
    # With one tag more, text at the very beginning stands behind a tag too, and the expression begins with a plain character: that is fast.
    return _LONE.sub(_mark, f">{page}")[1:]


def unmarked(text: str) -> str:
    """Text without marks."""
    return text.replace(MARK, "") if MARK in text else text


def _mark(match: re.Match[str]) -> str:
    data = html.unescape(match[2]).encode("utf-8", "replace")
    return match[0] + MARK if len(data) == 3 and data[-1] >= 0x80 else match[0]
