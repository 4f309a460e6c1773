"""HTML -> text that keeps mathematics: `$..$` inline, `$$..$$` for display.

Every formula becomes a placeholder (two private-use characters around a number) before resiliparse extracts the main
text, so none can be dropped as a script or flattened. TeX typed into the text is found afterwards, when tags no longer
cut it up; delimiters in `<pre>` and `<code>` are hidden from that search.

The paper says nothing of extraction (its seed, OpenWebMath, keeps formulas); all of this is our choice.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree

from data.extract import asciimath
from data.extract.figures import figures, is_content
from data.extract.formulas import collect
from data.extract.language import detect_language
from data.extract.lists import BULLET, bulleted, lists, rename, stray_items, with_bullets
from data.extract.lone import MARK, marked, unmarked
from data.extract.nesting import is_too_deep, without_tags
from data.extract.raised import raised
from data.extract.typed import has_typed, replace_typed

_OPEN, _CLOSE = "\ue000", "\ue001"
_PLACEHOLDER = re.compile(rf"{_OPEN}(\d+){_CLOSE}")
# Delimiters inside code, and the private-use characters that hide them from the search for typed TeX.
_HIDDEN = {"$": "\ue002", "\\": "\ue003", "[": "\ue004", "`": "\ue005"}
_SHOWN = {hidden: shown for shown, hidden in _HIDDEN.items()}
_PRIVATE_USE = dict.fromkeys((_OPEN, _CLOSE, MARK, BULLET, *_SHOWN), "")
_CODE = "pre, code, kbd, samp, tt"
# The tag would hide from every parser what the page's own script shows.
_TEMPLATE = re.compile(r"</?(?:template|TEMPLATE)\b[^>]*>")
# Names as the libraries spell them; a search that ignores case takes ten times as long.
_ASCIIMATH = re.compile(r"asciimath2jax|ASCIIMathML|AM_(?:CHTML|HTMLorMML|SVG)|input/asciimath|asciimath\s*:\s*\{")
_BACKTICKS = re.compile(r"`([^`\n]{1,400})`")


@dataclass(frozen=True)
class Extracted:
    """What a page says."""

    text: str
    formulas: int
    kinds: dict[str, int]
    """Formulas by the encoding they were read from."""
    title: str
    language: str
    """ISO 639-1 code, or "unknown"; judged without the formulas."""


def extract(html: str) -> Extracted:
    """The main text of a page, each formula once; `formulas` counts those in the text.

    Never raises on bad HTML: the worst is an empty text.
    """
    html = html if html.isascii() else _replaced(html, _PRIVATE_USE)
    if "template" in html or "TEMPLATE" in html:
        html = _TEMPLATE.sub("", html)
    tree = HTMLTree.parse(marked(without_tags(html) if is_too_deep(html) else html))
    formulas: list[str] = []
    kinds: list[str] = []

    def placeholder(tex: str, display: bool, kind: str) -> str:
        tex = unmarked(tex)
        formulas.append(f"$${tex}$$" if display else f"${tex}$")
        kinds.append(kind)
        return f"{_OPEN}{len(formulas) - 1}{_CLOSE}"

    found, repeats = collect(tree)
    code = tree.body.query_selector_all(_CODE).values() if tree.body else []
    scripts = raised(tree.body) if tree.body else []
    content_lists, menus = lists(tree.body) if tree.body else ([], [])
    stray = stray_items(tree.body) if tree.body else []
    floating = figures(html, tree.body) if tree.body else []
    # From here on the tree changes, and no whole is searched any more.
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
    if not text.strip():  # a layout that the main-content rules take for boilerplate altogether
        text = extract_plain_text(tree, main_content=False, alt_texts=False)
    text = replace_typed(with_bullets(unmarked(text)), placeholder)
    if "`" in text and _ASCIIMATH.search(html):
        text = _BACKTICKS.sub(lambda match: placeholder(asciimath.to_tex(match[1]), False, "asciimath"), text)
    language = detect_language(_PLACEHOLDER.sub(" ", text))
    kept = Counter(kinds[int(place)] for place in _PLACEHOLDER.findall(text))
    text = _replaced(_PLACEHOLDER.sub(lambda match: formulas[int(match[1])], text), _SHOWN)
    return Extracted(text.strip(), kept.total(), dict(kept), " ".join(unmarked(tree.title or "").split()), language)


def _has_formula(text: str) -> bool:
    return _OPEN in text or has_typed(text)


def _replaced(text: str, characters: dict[str, str]) -> str:
    """`str.translate` for a few characters that are mostly absent: thirty times as fast on a long text."""
    for character, replacement in characters.items():
        if character in text:
            text = text.replace(character, replacement)
    return text
