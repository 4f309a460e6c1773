"""Figures, captions and asides that belong to the text.

resiliparse's main-content rules drop them all: pictures have no text, and asides are mostly advertisements. But a caption that is more
than a credit, and a margin note with a formula, are text. And a `<figure>` that its author forgot to close contains the rest of the page.
"""

from __future__ import annotations

from collections.abc import Callable

from resiliparse.parse.html import ElementNode

from mathquarry.data.extract.lists import is_mostly_linked

_TAGS = "figure, figcaption, aside"
SHORTEST_CAPTION = 40
"""Characters; a shorter caption is a credit."""
_HEADINGS = "h1, h2, h3, h4"


def figures(body: ElementNode) -> list[ElementNode]:
    """The elements that `is_content` decides about, outer ones first."""
    return body.query_selector_all(_TAGS).values()


def is_content(node: ElementNode, has_formula: Callable[[str], bool]) -> bool:
    """Whether an element from `figures` is text of the page: it has a formula, a caption or headings, and is not a list of links."""
    text = node.text or ""
    return (has_formula(text) or _has_caption(node, text) or _has_headings(node)) and not is_mostly_linked(node)


def _has_caption(node: ElementNode, text: str) -> bool:
    if node.tag == "figure":
        caption = node.query_selector("figcaption")
        text = (caption.text or "") if caption is not None else ""
    return node.tag != "aside" and len(" ".join(text.split())) >= SHORTEST_CAPTION


def _has_headings(node: ElementNode) -> bool:
    return node.tag == "figure" and node.query_selector(_HEADINGS) is not None
