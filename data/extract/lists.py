"""Lists that belong to the text.

resiliparse's main-content rules drop every `<ul>`, since most of them are menus, and leave its indentation behind. So a list whose text
is mostly in links is taken out before, and any other is renamed to `<menu>`, which those rules keep and print with bullets all the same.
"""

from __future__ import annotations

from resiliparse.parse.html import ElementNode, HTMLTree

MOST_LINKED = 0.5
"""Share of a list's characters in links from which it is a menu."""


def lists(body: ElementNode) -> tuple[list[ElementNode], list[ElementNode]]:
    """(content, menus): the `<ul>` elements whose text is mostly not in links, and the others. A list in a menu is not looked at."""
    content: list[ElementNode] = []
    menus: list[ElementNode] = []
    inside: set[int] = set()  # menus, and lists in them
    for node in body.query_selector_all("ul").values():  # outer lists come first
        parent = node.parent_element
        outer = parent.closest("ul") if parent is not None else None
        if outer is not None and hash(outer) in inside:
            inside.add(hash(node))
        elif is_mostly_linked(node):
            menus.append(node)
            inside.add(hash(node))
        else:
            content.append(node)
    return content, menus


def is_mostly_linked(node: ElementNode) -> bool:
    """Whether an element has no text, or most of it is in links."""
    length = len((node.text or "").strip())
    if not length:
        return True
    linked = sum(len((link.text or "").strip()) for link in node.query_selector_all("a").values())
    return linked >= MOST_LINKED * length


def rename(tree: HTMLTree, node: ElementNode, tag: str) -> None:
    """Put what is in `node` into an element of another name in its place."""
    renamed = tree.create_element(tag)
    assert renamed is not None, "only a tree without a document cannot make nodes"
    while (child := node.first_child) is not None:
        renamed.append_child(child)
    node.replace_with(renamed)
