"""Formulas of a page as MathML, which browsers draw by themselves: the report loads nothing.

The TeX comes from web pages. Of what the converter makes of it only presentation elements and a few harmless
attributes are kept, and all text is escaped; a formula that cannot be converted is shown as it is written.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from latex2mathml.converter import convert_to_element
from markupsafe import Markup, escape

from data.report.blocks import Piece

LONGEST = 400
"""Characters of TeX; longer formulas are shown as they are written."""

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
    """A text cut into plain stretches and formulas (`$...$`, `$$...$$`), without empty lines around one on a line of its own."""
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
    """MathML of a formula; None for TeX that is too long or that the converter does not know."""
    if len(tex) > LONGEST:
        return None
    try:
        root = convert_to_element(tex, display="block" if display else "inline")
    except Exception:  # an error in the TeX can be any of a dozen classes without a common base, or a failure inside the converter
        return None
    unknown = any("\\" in (part.text or "") for part in root.iter())
    return None if unknown else Markup(_serialise(root, "block" if display else ""))


def _serialise(element: Element, display: str = "") -> str:
    """The element and what is in it. Where an element is not allowed, its content stays."""
    inside = escape(html.unescape(element.text or "")) + Markup("").join(Markup(_serialise(child)) for child in element)
    name = element.tag.rsplit("}", 1)[-1]
    if not _ELEMENTS.fullmatch(name):
        return f"<mrow>{inside}</mrow>"
    kept = {key: value for key, value in element.attrib.items() if _ATTRIBUTES.fullmatch(key) and _VALUE.fullmatch(value)}
    if display:
        kept["display"] = display
    attributes = "".join(f' {key}="{escape(value)}"' for key, value in kept.items())
    return f"<{name}{attributes}>{inside}</{name}>"
