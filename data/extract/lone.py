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

_MARK = MARK.encode()
_SPACE = rb" \t\n\r\f\v"
_ASCII, _TWO_BYTES, _THREE_BYTES, _ENTITY = rb"[!-%'-;=-~]", rb"[\xc2-\xdf][\x80-\xbf]", rb"[\xe0-\xef][\x80-\xbf]{2}", rb"&[#\w]{2,32};?"
_LONE = re.compile(
    rb">[%(space)b]*+(%(three)b|%(ascii)b(?:%(two)b|%(entity)b)|%(entity)b(?:%(two)b|%(entity)b)?+)(?=[%(space)b]*+(?:<|\Z))"
    % {b"space": _SPACE, b"ascii": _ASCII, b"two": _TWO_BYTES, b"three": _THREE_BYTES, b"entity": _ENTITY}
)


def marked(source: bytes) -> bytes:
    """The source of a page, in UTF-8, with a mark after every text node that would be lost, whether written directly or with entities."""
    # With the extra ">", text at the very beginning follows a tag too. The expression starts with a plain character, which is fast.
    return _LONE.sub(_mark, b">" + source)[1:]


def unmarked(text: str) -> str:
    """Text without marks."""
    return text.replace(MARK, "") if MARK in text else text


def _mark(match: re.Match[bytes]) -> bytes:
    data = match[1]
    if b"&" in data:
        data = html.unescape(data.decode()).encode("utf-8", "replace")
    return match[0] + _MARK if len(data) == 3 and data[-1] >= 0x80 else match[0]
