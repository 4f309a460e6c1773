"""Pages nested deeper than any browser shows, on which finding the main content takes minutes."""

from __future__ import annotations

import re

import numpy as np

DEEPEST = 512
"""Levels of nesting that browsers keep; further elements become siblings there."""

_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
# Elements that are empty, or that the next of their kind closes: without end tags they do not nest.
_FLAT = {
    *("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"),
    *("dd", "dt", "li", "option", "p", "td", "th", "tr"),
}


def is_too_deep(html: str) -> bool:
    """Whether start tags outrun end tags by more than `DEEPEST` somewhere.

    Tags in scripts and comments count too, so this errs on the high side.
    """
    data = np.frombuffer(html.encode("utf-8", "replace"), dtype=np.uint8)
    after = data[np.flatnonzero(data[:-1] == ord("<")) + 1]
    lower = after | 0x20
    opens = (lower >= ord("a")) & (lower <= ord("z"))
    if _excess(opens.astype(np.int64) - (after == ord("/"))) <= DEEPEST:
        return False  # nearly every page ends here, in a fraction of a millisecond
    steps = [-1 if tag[1] else 1 for tag in _TAG.finditer(html) if tag[2].lower() not in _FLAT]
    return _excess(np.asarray(steps, dtype=np.int64)) > DEEPEST


def without_tags(html: str) -> str:
    """The page with a space for every tag."""
    return re.sub(r"<[^<>]*>", " ", html)


def _excess(steps: np.ndarray) -> int:
    """The highest rise of the running sum above its lowest value before."""
    depth = np.concatenate([[0], np.cumsum(steps)])
    return int((depth - np.minimum.accumulate(depth)).max())
