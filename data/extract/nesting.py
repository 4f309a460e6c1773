"""Detects pages nested deeper than browsers support, where finding the main content takes minutes."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from mathquarry.data.extract.outline import largest_rise

DEEPEST = 512
"""Levels of nesting that browsers keep; further elements become siblings there."""

# A tag, with the slash if it closes itself; and elements whose content is not markup, up to their ends.
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9:-]*)(?:[^<>]*?(/)?>)?")
_NO_MARKUP = re.compile(r"(?is)<!--.*?(?:-->|\Z)|<(script|style|textarea|title|xmp|noembed|noframes|iframe)\b[^<>]*+>.*?(?:</\1\s*>|\Z)")
# Elements that are empty, or closed by the next one of their kind: without end tags they do not nest.
_FLAT = {
    *("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"),
    *("dd", "dt", "li", "option", "p", "td", "th", "tr"),
}
# Elements that cannot be in a drawing or formula: a parser leaves it there (https://html.spec.whatwg.org/multipage/parsing.html#parsing-main-inforeign).
_LEAVE = {
    *("b", "big", "blockquote", "body", "center", "code", "div", "dl", "em", "font", "h1", "h2", "h3", "h4", "h5", "h6", "head", "i"),
    *(
        "listing",
        "menu",
        "nobr",
        "ol",
        "pre",
        "ruby",
        "s",
        "small",
        "span",
        "strong",
        "strike",
        "sub",
        "sup",
        "table",
        "tt",
        "u",
        "ul",
        "var",
    ),
}


def is_too_deep(source: bytes) -> bool:
    """Whether start tags outnumber end tags by more than `DEEPEST` somewhere in a page in UTF-8.

    Tags of empty elements, and those in scripts and comments, do not count.
    """
    data = np.frombuffer(source, dtype=np.uint8)
    after = data[np.flatnonzero(data[:-1] == ord("<")) + 1]
    opens = (after | 0x20) - ord("a") < 26
    if largest_rise(opens.astype(np.int8) - (after == ord("/"))) <= DEEPEST:
        return False  # nearly every page ends here, in a fraction of a millisecond
    return largest_rise(np.asarray(list(_steps(source.decode("utf-8", "replace"))), dtype=np.int8)) > DEEPEST


def _steps(html: str) -> Iterator[int]:
    """1 for every tag that opens an element, -1 for every end tag.

    A slash closes only elements of drawings and formulas. HTML elements ignore it, and end a drawing that contains them.
    """
    foreign = 0
    for tag in _TAG.finditer(_NO_MARKUP.sub("", html)):
        name = tag[2].lower()
        if name in _FLAT or (tag[3] and foreign and name not in _LEAVE):
            continue
        if name in _LEAVE:
            foreign = 0
        elif name in ("svg", "math"):
            foreign = max(0, foreign + (-1 if tag[1] else 1))
        yield -1 if tag[1] else 1


def without_tags(html: str) -> str:
    """The page with a space for every tag, and without scripts, styles and comments."""
    return re.sub(r"<[^<>]*>", " ", _NO_MARKUP.sub(" ", html))
