"""HTML -> text that keeps mathematics: `$..$` inline, `$$..$$` for display.

Every formula becomes a placeholder (two private-use characters around a number) before resiliparse extracts the main
text, so none can be dropped as a script or flattened. TeX typed into the text is found afterwards, when tags no longer
split it; delimiters in `<pre>` and `<code>` are hidden from that search.

The paper does not describe extraction (its seed, OpenWebMath, keeps formulas); all of this is our choice.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree

from mathquarry.data.extract import asciimath
from mathquarry.data.extract.boilerplate import boilerplate, without
from mathquarry.data.extract.figures import figures, is_content
from mathquarry.data.extract.formulas import collect, may_have_encoded
from mathquarry.data.extract.language import detect_language
from mathquarry.data.extract.lists import BULLET, bulleted, lists, rename, stray_items, with_bullets
from mathquarry.data.extract.lone import MARK, marked, unmarked
from mathquarry.data.extract.nesting import DEEPEST, is_too_deep, without_tags
from mathquarry.data.extract.outline import Outline, outline
from mathquarry.data.extract.raised import raised
from mathquarry.data.extract.rescue import LEAST_KEPT, MUCH_MORE, without_names
from mathquarry.data.extract.typed import has_typed, replace_typed

_OPEN, _CLOSE = "\ue000", "\ue001"
_PLACEHOLDER = re.compile(rf"{_OPEN}(\d+){_CLOSE}")
# Delimiters inside code, and the private-use characters that hide them from the search for typed TeX.
_HIDDEN = {"$": "\ue002", "\\": "\ue003", "[": "\ue004", "`": "\ue005"}
_SHOWN = {hidden: shown for shown, hidden in _HIDDEN.items()}
_PRIVATE_USE = dict.fromkeys((_OPEN, _CLOSE, MARK, BULLET, *_SHOWN), "")
_PRIVATE_USE_BYTE = b"\xee"
"""The first byte in UTF-8 of all characters above; few others have it."""
_CODE = ("pre", "code", "kbd", "samp", "tt")
# The tag would hide content from every parser that the page's own script shows.
_TEMPLATE = re.compile(rb"(?i)</?template\b[^>]*>")
# Names in the libraries' spelling; a case-insensitive search takes ten times as long.
_ASCIIMATH = re.compile(rb"asciimath2jax|ASCIIMathML|AM_(?:CHTML|HTMLorMML|SVG)|input/asciimath|asciimath\s*:\s*\{")
_BACKTICKS = re.compile(r"`([^`\n]{1,400})`")


@dataclass(frozen=True)
class Extracted:
    """The extracted text of a page."""

    text: str
    formulas: int
    kinds: dict[str, int]
    """Formulas by the encoding they were read from."""
    title: str
    language: str
    """ISO 639-1 code, or "unknown"; detected without the formulas."""


def extract(html: str | bytes) -> Extracted:
    """The main text of a page, which is HTML or that in UTF-8, each formula once; `formulas` counts those in the text.

    Never raises on bad HTML; the worst result is an empty text.
    """
    source = html.encode("utf-8", "replace") if isinstance(html, str) else html
    if _PRIVATE_USE_BYTE in source:
        source = _replaced(source.decode("utf-8", "replace"), _PRIVATE_USE).encode()
    page = outline(source)
    if page.has("template"):
        page = outline(_TEMPLATE.sub(b"", page.source))
    if page.rise > DEEPEST and is_too_deep(page.source):
        page = outline(without_tags(page.source.decode("utf-8", "replace")).encode("utf-8", "replace"))
    cut = boilerplate(page)
    found = _read(without(page, cut), page)
    plain = page.total - page.total_linked - sum(int(page.text[block] - page.linked[block]) for block in cut)
    if len(found.text.encode("utf-8", "replace")) < LEAST_KEPT * plain:
        named = _read(without_names(page, cut), page)
        if len(named.text) >= MUCH_MORE * len(found.text) and named.formulas >= found.formulas:
            return named
    return found


def _read(source: bytes, page: Outline) -> Extracted:
    """Main text and formulas of a page, whose source may lack blocks, by resiliparse's rules.

    What neither has is not searched for in the tree.
    """
    tree = HTMLTree.parse(marked(source).decode("utf-8", "replace"))
    formulas: list[str] = []
    kinds: list[str] = []

    def placeholder(tex: str, display: bool, kind: str) -> str:
        tex = unmarked(tex)
        formulas.append(f"$${tex}$$" if display else f"${tex}$")
        kinds.append(kind)
        return f"{_OPEN}{len(formulas) - 1}{_CLOSE}"

    found, repeats = collect(tree, page.has("mjx") or may_have_encoded(source.lower()), page.has("img", "image"))
    body = tree.body
    code = body.query_selector_all(", ".join(_CODE)).values() if body and page.has(*_CODE) else []
    scripts = raised(body) if body and page.has("sub", "sup") else []
    content_lists, menus = lists(body) if body and page.has("ul", "menu") else ([], [])
    stray = stray_items(body) if body and page.has("li") else []
    floating = figures(body) if body and page.has("figure", "figcaption", "aside") else []
    # From here on the tree changes, and is no longer searched as a whole.
    for formula in found:
        text_node = tree.create_text_node(placeholder(formula.tex, formula.display, formula.kind))
        assert text_node is not None, "only a tree without a document cannot make nodes"
        formula.node.replace_with(text_node)
    for node, script in scripts:
        node.text = script
    for node in menus:
        node.remove()
    for node in content_lists + stray:
        bulleted(tree, node)
    for node in [node for node in floating if is_content(node, _has_formula)]:
        rename(tree, node, "div")
    for node in repeats:
        node.remove()
    for node in code:
        content = node.text or ""
        if (hidden := _replaced(content, _HIDDEN)) != content:
            node.text = hidden + MARK  # it may be one such character alone

    text = extract_plain_text(tree, main_content=True, alt_texts=False)
    if not text.strip():  # a layout that the main-content rules mistake entirely for boilerplate
        text = extract_plain_text(tree, main_content=False, alt_texts=False)
    text = replace_typed(with_bullets(unmarked(text)), placeholder)
    if "`" in text and _ASCIIMATH.search(page.source):
        text = _BACKTICKS.sub(lambda match: placeholder(asciimath.to_tex(match[1]), False, "asciimath"), text)
    language = detect_language(_PLACEHOLDER.sub(" ", text) if formulas else text)
    kept = Counter(kinds[int(place)] for place in _PLACEHOLDER.findall(text)) if formulas else Counter()
    if formulas:
        text = _PLACEHOLDER.sub(lambda match: formulas[int(match[1])], text)
    text = _replaced(text, _SHOWN)
    return Extracted(text.strip(), kept.total(), dict(kept), " ".join(unmarked(tree.title or "").split()), language)


def _has_formula(text: str) -> bool:
    return _OPEN in text or has_typed(text)


def _replaced(text: str, characters: dict[str, str]) -> str:
    """`str.translate` for a few characters that are mostly absent, thirty times as fast on long texts."""
    for character, replacement in characters.items():
        if character in text:
            text = text.replace(character, replacement)
    return text
