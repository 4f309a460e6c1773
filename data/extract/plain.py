"""Converts HTML to plain text as cheaply as possible, for mining's first pass, which sees every page. Formulas may be lost."""

from __future__ import annotations

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree

from mathquarry.data.extract.html import Extracted
from mathquarry.data.extract.language import detect_language
from mathquarry.data.extract.lone import marked, unmarked
from mathquarry.data.extract.nesting import is_too_deep, without_tags


def extract_plain(page: str | bytes) -> Extracted:
    """The main text of a page, which is HTML or that in UTF-8, without counting formulas.

    Never raises on bad HTML; the worst result is an empty text.
    """
    source = page.encode("utf-8", "replace") if isinstance(page, str) else page
    if is_too_deep(source):
        source = without_tags(source.decode("utf-8", "replace")).encode()
    tree = HTMLTree.parse(marked(source).decode("utf-8", "replace"))
    text = extract_plain_text(tree, main_content=True, alt_texts=False)
    if not text.strip():  # a layout that the main-content rules mistake entirely for boilerplate
        text = extract_plain_text(tree, main_content=False, alt_texts=False)
    text = unmarked(text)
    return Extracted(text.strip(), 0, {}, " ".join(unmarked(tree.title or "").split()), detect_language(text))
