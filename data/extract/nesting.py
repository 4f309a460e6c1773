"""Pages nested deeper than any browser shows, on which finding the main content takes minutes."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

DEEPEST = 512
"""Levels of nesting that browsers keep; further elements become siblings there."""

# A tag, with the slash of one that closes itself; elements whose content is no markup, to their ends.
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9:-]*)(?:[^<>]*?(/)?>)?")
_NO_MARKUP = re.compile(r"(?is)<!--.*?(?:-->|\Z)|<(script|style|textarea|title|xmp|noembed|noframes|iframe)\b[^<>]*+>.*?(?:</\1\s*>|\Z)")
# Elements that are empty, or that the next of their kind closes: without end tags they do not nest.
_FLAT = {
    *("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"),
    *("dd", "dt", "li", "option", "p", "td", "th", "tr"),
}
# What no drawing or formula contains: a parser leaves it there (https://html.spec.whatwg.org/multipage/parsing.html#parsing-main-inforeign).
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


def is_too_deep(html: str) -> bool:
    """Whether start tags outrun end tags by more than `DEEPEST` somewhere.

    Tags of empty elements, and those in scripts and comments, do not count.
    """
    data = np.frombuffer(html.encode("utf-8", "replace"), dtype=np.uint8)
    after = data[np.flatnonzero(data[:-1] == ord("<")) + 1]
    lower = after | 0x20
    opens = (lower >= ord("a")) & (lower <= ord("z"))
    if _excess(opens.astype(np.int64) - (after == ord("/"))) <= DEEPEST:
        return False  # nearly every page ends here, in a fraction of a millisecond
    return _excess(np.asarray(list(_steps(html)), dtype=np.int64)) > DEEPEST


def _steps(html: str) -> Iterator[int]:
    """1 for every tag that opens an element, -1 for every end tag.

    A slash closes only elements of drawings and formulas; HTML's own ignore it, and end a drawing that they stand in.
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


def _excess(steps: np.ndarray) -> int:
    """The highest rise of the running sum above its lowest value before."""
    depth = np.concatenate([[0], np.cumsum(steps)])
    return int((depth - np.minimum.accumulate(depth)).max())
