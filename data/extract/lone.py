"""Protects text nodes of three bytes, which resiliparse's main-content extraction loses.

It drops every text node of exactly three UTF-8 bytes, not counting surrounding ASCII white space, whose last byte is not ASCII
(resiliparse 2.0.1): one character from U+0800 to U+FFFF, such as `≤`, `−`, `∈` or any Chinese character, kana or hangul between two tags,
or an ASCII character before one of two bytes, such as `2π`, `x²`, `5°` or `(α`. A mark after the text makes the node longer. It is added
before the page is parsed and removed from the text.
"""

from __future__ import annotations

import html
import re

MARK = "\ue006"
"""A private-use character. It is removed from pages before this module sees them."""

_SPACE = " \t\n\r\f\v"
_ASCII, _TWO_BYTES, _ENTITY = "[!-%'-;=-~]", "[\u0080-\u07ff]", r"&[#\w]{2,32};?"
_LONE = re.compile(
    rf"(>[{_SPACE}]*+)([\u0800-\uffff]|{_ASCII}(?:{_TWO_BYTES}|{_ENTITY})|{_ENTITY}(?:{_TWO_BYTES}|{_ENTITY})?+)(?=[{_SPACE}]*+(?:<|\Z))"
)


def marked(page: str) -> str:
    """The HTML of a page with a mark after every text node that would be lost, whether written directly or with entities."""
    # With the extra ">", text at the very beginning follows a tag too. The expression starts with a plain character, which is fast.
    return _LONE.sub(_mark, f">{page}")[1:]


def unmarked(text: str) -> str:
    """Text without marks."""
    return text.replace(MARK, "") if MARK in text else text


def _mark(match: re.Match[str]) -> str:
    data = html.unescape(match[2]).encode("utf-8", "replace")
    return match[0] + MARK if len(data) == 3 and data[-1] >= 0x80 else match[0]
