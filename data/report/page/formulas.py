"""Renders the formulas of a page as MathML, which browsers display without loading anything.

The TeX comes from web pages. Only presentation elements and a few harmless attributes of the converter's result are kept, and all text is
escaped. A formula that cannot be converted is shown as TeX.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from latex2mathml.converter import convert_to_element
from markupsafe import Markup, escape

from mathquarry.data.report.page.blocks import Piece

LONGEST = 400
"""Maximum length of TeX in characters. Longer formulas are shown as TeX."""

_FORMULA = re.compile(r"(?<!\\)(\$\$?)(?=\S)((?:\\.|[^$\\])+?)(?<=\S)\1")
_ELEMENTS = re.compile(
    "math|mrow|mi|mo|mn|ms|mtext|mspace|msup|msub|msubsup|mfrac|msqrt|mroot|mover|munder|munderover|mmultiscripts|mprescripts|none"
    "|mtable|mtr|mtd|mstyle|mpadded|mphantom|menclose"
)
_ATTRIBUTES = re.compile(
    "mathvariant|stretchy|fence|separator|form|largeop|movablelimits|accent|accentunder|displaystyle|scriptlevel|linethickness"
    "|minsize|maxsize|columnalign|rowspacing|columnspacing|lspace|rspace|width|height|depth|notation"
)
_VALUE = re.compile(r"[\w .%+-]*")


def pieces(text: str) -> Iterator[Piece]:
    """Split text into plain parts and formulas (`$...$`, `$$...$$`). Empty lines around a formula on a line of its own are removed."""
    end, after_display = 0, False
    for match in _FORMULA.finditer(text):
        display = len(match[1]) == 2
        yield from _plain(text[end : match.start()], after_display, display)
        yield Piece(match[0], to_mathml(match[2], display=display), formula=True, display=display)
        end, after_display = match.end(), display
    yield from _plain(text[end:], after_display, False)


def _plain(text: str, after_display: bool, before_display: bool) -> Iterator[Piece]:
    text = text.lstrip("\n") if after_display else text
    text = text.rstrip("\n") if before_display else text
    if text:
        yield Piece(text)


def to_mathml(tex: str, *, display: bool = False) -> Markup | None:
    """Convert a formula to MathML; None if the TeX is too long or unknown to the converter."""
    if len(tex) > LONGEST:
        return None
    try:
        root = convert_to_element(tex, display="block" if display else "inline")
    except Exception:  # an error in the TeX can be any of a dozen classes without a common base, or a failure inside the converter
        return None
    unknown = any("\\" in (part.text or "") for part in root.iter())
    return None if unknown else Markup(_serialise(root, "block" if display else ""))


def _serialise(element: Element, display: str = "") -> str:
    """Serialise an element and its content. If an element is not allowed, only its content is kept."""
    inside = escape(html.unescape(element.text or "")) + Markup("").join(Markup(_serialise(child)) for child in element)
    name = element.tag.rsplit("}", 1)[-1]
    if not _ELEMENTS.fullmatch(name):
        return f"<mrow>{inside}</mrow>"
    kept = {key: value for key, value in element.attrib.items() if _ATTRIBUTES.fullmatch(key) and _VALUE.fullmatch(value)}
    if display:
        kept["display"] = display
    attributes = "".join(f' {key}="{escape(value)}"' for key, value in kept.items())
    return f"<{name}{attributes}>{inside}</{name}>"
