"""Formulas in a parsed page: where they stand, and their TeX source.

A page may carry one formula several times (a script, its rendering, a fallback image). `collect` returns the outermost
node of each formula once, with the best source found inside, and the renderings to delete. Nothing is changed here:
resiliparse forbids changes while it walks the tree. Its collections are searched anew for every item they are asked for,
so they are always taken whole, with `.values()`.

Not read yet: MathML that has neither annotation nor alttext, renderings without any source (KaTeX or MathJax output alone), AsciiMath.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote, unquote_plus, urlsplit

from resiliparse.parse.html import ElementNode, HTMLTree

from data.extract.tex import LONGEST, strip_directives, tidy


@dataclass(frozen=True)
class Formula:
    """A node that stands for one formula."""

    node: ElementNode
    tex: str
    display: bool


# MathML with a namespace prefix keeps the prefix in its tag names.
_MATH = r"math, mml\:math, m\:math"
_RENDERINGS = ".MathJax_Preview, .MathJax, .MathJax_Display, .MathJax_SVG, .MathJax_SVG_Display, .MathJax_CHTML, .MJXc-display"
_IMAGE_CLASSES = re.compile(r"(?:^|\s)(?:latex|tex|math|ql-img-\S*|mwe-math-fallback-image-\S*|math-?image|equation-?image)(?:\s|$)")
_IMAGE_SOURCES = re.compile(r"latex\.php|codecogs\.com|mi[mn]etex|mathtex|tex\.cgi|latex\.cgi|[?&]cht=tx|/render/(?:svg|png)/|media/math")
_QUERY_FIELD = re.compile(r"(?:^|&)(?:latex|chl|tex|math|eq)=([^&]*(?:&(?:plus|space|amp);[^&]*)*)")


def collect(tree: HTMLTree) -> tuple[list[Formula], list[ElementNode]]:
    """Formulas of a page, none inside another, and the nodes that only repeat one of them."""
    body = tree.body
    if body is None:
        return [], []
    candidates = [formula for finder in (_containers, _scripts, _math_elements, _images) for formula in finder(body)]
    taken = {hash(formula.node) for formula in candidates}
    outermost: dict[int, Formula] = {}
    for formula in candidates:
        if not _inside(formula.node, taken):
            outermost.setdefault(hash(formula.node), formula)
    # The renderer leaves its output beside the script it was made from; without scripts that output is all there is.
    repeats = body.query_selector_all(_RENDERINGS).values() if body.query_selector('script[type^="math/tex"]') else []
    return list(outermost.values()), [node for node in repeats if hash(node) not in taken and not _inside(node, taken)]


def _inside(node: ElementNode, taken: set[int]) -> bool:
    parent = node.parent_element
    while parent is not None:
        if hash(parent) in taken:
            return True
        parent = parent.parent_element
    return False


def _formula(node: ElementNode, source: str | None, display: bool = False) -> Iterator[Formula]:
    """At most one formula: none when there is no source."""
    tex, marked = tidy(source or "")
    if tex and len(tex) <= LONGEST:
        yield Formula(node, tex, display or marked)


def _containers(body: ElementNode) -> Iterator[Formula]:
    """Elements that sites or renderers wrap around one formula: KaTeX, Wikipedia, Stack Exchange, wp-katex, Distill."""
    for node in body.query_selector_all(".katex").values():
        outer = node.closest(".katex-display")
        yield from _formula(outer or node, _annotation(node), outer is not None)
    for node in body.query_selector_all(".mwe-math-element").values():
        image = node.query_selector("img")
        math = node.query_selector("math")
        source = (math and _math_source(math)) or (image and image.get_attribute("alt"))
        display = "mwe-math-element-block" in node.class_list or bool(math and math.get_attribute("display") == "block")
        yield from _formula(node, source, display)
    for node in body.query_selector_all(".wp-katex-eq").values():
        yield from _formula(node, node.text, node.get_attribute("data-display") == "true")
    for node in body.query_selector_all("d-math, dt-math").values():
        yield from _formula(node, node.text, node.has_attribute("block"))
    for node in body.query_selector_all(".math-container").values():
        if node.query_selector('script[type^="math/tex"], .katex, math, img') is None:
            yield from _formula(node, node.text, node.tag == "div")


def _scripts(body: ElementNode) -> Iterator[Formula]:
    for node in body.query_selector_all('script[type^="math/tex"]').values():
        source = re.sub(r"^\s*%\s*<!\[CDATA\[|%\s*\]\]>\s*$", "", node.text or "")
        yield from _formula(node, source, "mode=display" in (node.get_attribute("type") or "").replace(" ", ""))


def _math_elements(body: ElementNode) -> Iterator[Formula]:
    for node in body.query_selector_all(_MATH).values():
        yield from _formula(node, _math_source(node), node.get_attribute("display") == "block")


def _math_source(node: ElementNode) -> str | None:
    return _annotation(node) or node.get_attribute("alttext")


def _annotation(node: ElementNode) -> str | None:
    for annotation in node.query_selector_all("[encoding]").values():
        if "tex" in (annotation.get_attribute("encoding") or "").lower():
            return annotation.text
    return None


def _images(body: ElementNode) -> Iterator[Formula]:
    for node in body.query_selector_all("img").values():
        address = node.get_attribute("src") or ""
        classes = node.get_attribute("class") or ""
        known = _IMAGE_SOURCES.search(address) is not None
        if known or _IMAGE_CLASSES.search(classes):
            alt = node.get_attribute("alt") or ""
            source = alt if _looks_like_tex(alt, address) else _address_source(address) if known else None
            yield from _formula(node, source, "ql-img-displayed" in classes)


def _looks_like_tex(alt: str, address: str) -> bool:
    """Whether an alternative text is the formula and no description ("equation", "LaTeX formula", the address)."""
    return bool(alt.strip()) and alt not in address and not re.fullmatch(r"(?i)\W*(latex|equation|formula|math|image|tex)\b[\w\s]*", alt)


def _address_source(address: str) -> str | None:
    try:
        query = urlsplit(address).query
    except ValueError:
        return None
    field = _QUERY_FIELD.search(query)
    # A form's field writes a space as "+"; a bare query means the sign.
    return strip_directives(unquote_plus(field[1]) if field else unquote(query))
