"""Lists that belong to the text.

resiliparse's main-content rules drop every `<ul>`, since most are menus, and leave its indentation behind. So a list whose text is mostly
in links is removed before, and any other list is renamed to `<ol>`, which those rules keep. Its items get a mark, and the number before a
mark becomes a bullet in the text. (`<menu>` is kept too, but never closed: everything after it would be indented and have a bullet.)
"""

from __future__ import annotations

import re

from resiliparse.parse.html import ElementNode, HTMLTree

BULLET = "\ue007"
"""A private-use character. It is removed from pages before they are parsed."""
_ITEM = 2 * BULLET  # one alone would be lost: see lone.py
_NUMBER = r"(?<!\d)\d{1,6}\.[ ]?"
_LONGEST_NUMBER = len("123456. ")
_NUMBER_BEFORE = re.compile(rf"{_NUMBER}\Z")
# If a list starts an item, its first item is on that item's line, and one bullet serves both.
_ITEMS = re.compile(rf"(?:(?:{_NUMBER})?{_ITEM}\s*(?=(?:{_NUMBER})?{_ITEM}))*(?:{_NUMBER})?{_ITEM}\s*")

MOST_LINKED = 0.5
"""A list with at least this share of its characters in links is a menu."""


def lists(body: ElementNode) -> tuple[list[ElementNode], list[ElementNode]]:
    """(content, menus): unnumbered lists whose text is mostly not in links, and the others. Lists inside menus are skipped."""
    content: list[ElementNode] = []
    menus: list[ElementNode] = []
    inside: set[int] = set()  # menus, and lists in them
    for node in body.query_selector_all("ul, menu").values():  # outer lists come first
        parent = node.parent_element
        outer = parent.closest("ul, menu") if parent is not None else None
        if outer is not None and hash(outer) in inside:
            inside.add(hash(node))
        elif is_mostly_linked(node):
            menus.append(node)
            inside.add(hash(node))
        else:
            content.append(node)
    return content, menus


def stray_items(body: ElementNode) -> list[ElementNode]:
    """`<li>` elements outside any list."""
    return body.query_selector_all(":not(ul):not(ol):not(menu) > li").values()


def bulleted(tree: HTMLTree, node: ElementNode) -> None:
    """Turn an unnumbered list into a numbered one, and an item outside any list into a block; `with_bullets` then fixes the text."""
    if node.tag == "li":
        _mark(tree, node)
        rename(tree, node, "div")
        return
    child = node.first_element_child
    while child is not None:
        if child.tag == "li":
            _mark(tree, child)
        child = child.next_element_sibling
    rename(tree, node, "ol")


def _mark(tree: HTMLTree, item: ElementNode) -> None:
    first = item.first_child
    if first is not None and (item.text or "").strip():
        mark = tree.create_text_node(_ITEM)
        assert mark is not None, "only a tree without a document cannot make nodes"
        item.insert_before(mark, first)


def with_bullets(text: str) -> str:
    """Text with a bullet before every item that `bulleted` marked."""
    parts, place = [], 0
    while (found := text.find(_ITEM, place)) >= 0:
        number = _NUMBER_BEFORE.search(text, max(place, found - _LONGEST_NUMBER), found)
        items = _ITEMS.match(text, number.start() if number else found)
        assert items is not None, "it starts with an item"
        parts += [text[place : items.start()], "• "]
        place = items.end()
    return "".join([*parts, text[place:]])


def is_mostly_linked(node: ElementNode) -> bool:
    """Whether an element has no text, or most of it is in links."""
    length = len((node.text or "").strip())
    if not length:
        return True
    linked = sum(len((link.text or "").strip()) for link in node.query_selector_all("a").values())
    return linked >= MOST_LINKED * length


def rename(tree: HTMLTree, node: ElementNode, tag: str) -> None:
    """Replace `node` by an element of another name with the same content."""
    renamed = tree.create_element(tag)
    assert renamed is not None, "only a tree without a document cannot make nodes"
    while (child := node.first_child) is not None:
        renamed.append_child(child)
    node.replace_with(renamed)
