"""Converts `<sub>` and `<sup>` in running text: `mc<sup>2</sup>` -> `mc^{2}`, except for footnotes and ordinals."""

from __future__ import annotations

import re

from resiliparse.parse.html import ElementNode

from mathquarry.data.extract.lone import unmarked

_SCRIPT = re.compile(r"[-+−–±]?\s?[\w.,+\-−–*/()' ]{1,12}|[-+−*′'∗†∞°]{1,3}")
_ORDINAL = re.compile(r"(?i)st|nd|rd|th|er?|re|ère|ème|o|a|tm|sm|®|™")
_FOOTNOTE = re.compile(r"(?i)\b(?:ref|reference|footnote|fn|cite|cite_ref|note|noteref)")
# A power follows a variable, a unit of up to three letters, a number or a bracket; after a longer word it is a note.
_POWER_BASE = re.compile(r"(?:(?<![^\W\d_])[^\W\d_]{1,3}|\d|[)\]}|])$")
_INDEX_BASE = re.compile(r"(?:[^\W_]|[)\]}|])$")


def raised(body: ElementNode) -> list[tuple[ElementNode, str]]:
    """`<sub>` and `<sup>` elements that are scripts, and the TeX text to replace each."""
    found = []
    for node in body.query_selector_all("sub, sup").values():
        text = " ".join(unmarked(node.text or "").split())
        if not _SCRIPT.fullmatch(text) or (node.first_element_child is not None and not _is_styled(node)):
            continue
        before = _text_before(node)
        if node.tag == "sub":
            if _INDEX_BASE.search(before):
                found.append((node, f"_{{{text}}}"))
        elif _POWER_BASE.search(before) and not _ORDINAL.fullmatch(text) and not _is_footnote(node):
            found.append((node, f"^{{{text}}}"))
    return found


def _text_before(node: ElementNode) -> str:
    previous = node.previous_sibling
    return unmarked(previous.text or "")[-8:] if previous is not None else ""


def _is_styled(node: ElementNode) -> bool:
    """Whether the whole content is marked up as a variable, not as a link."""
    return node.query_selector("a, sub, sup, img, span[class]") is None


def _is_footnote(node: ElementNode) -> bool:
    return bool(_FOOTNOTE.search(f"{node.get_attribute('class') or ''} {node.get_attribute('id') or ''}")) or node.closest("a") is not None
