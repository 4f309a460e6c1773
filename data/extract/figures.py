"""Figures, captions and asides that hold formulas.

resiliparse's main-content rules drop them all: pictures say nothing, and asides are mostly advertisements. But a caption or a margin note
with a formula belongs to the text, and a `<figure>` that its author forgot to close holds the rest of the page.
"""

from __future__ import annotations

from collections.abc import Callable

from resiliparse.parse.html import ElementNode

from data.extract.lists import is_mostly_linked

_TAGS = "figure, figcaption, aside"
_HEADINGS = "h1, h2, h3, h4"


def figures(html: str, body: ElementNode) -> list[ElementNode]:
    """The elements that `is_content` should judge, outer ones first."""
    # Most pages have none, and this is quicker than a walk through the tree.
    return list(body.query_selector_all(_TAGS).values()) if "<fig" in html or "<aside" in html else []


def is_content(node: ElementNode, has_formula: Callable[[str], bool]) -> bool:
    """Whether an element of `figures` is text of the page: it has a formula, or is a figure with headings, and is no list of links."""
    if not has_formula(node.text or "") and (node.tag != "figure" or node.query_selector(_HEADINGS) is None):
        return False
    return not is_mostly_linked(node)
