"""Finds formulas in a parsed page: their nodes and their TeX source.

A page may contain one formula several times (a script, its rendering, a fallback image). `collect` returns the outermost
node of each formula once, with the best source found inside, and the renderings to delete. This module changes nothing,
since resiliparse forbids changes while it walks the tree. resiliparse repeats the search for every item read from a
collection, so collections are always read whole, with `.values()`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from resiliparse.parse.html import ElementNode, HTMLTree

from mathquarry.data.extract import asciimath
from mathquarry.data.extract.images import Picture, image_formula
from mathquarry.data.extract.lone import unmarked
from mathquarry.data.extract.mathml import Element, to_tex
from mathquarry.data.extract.rendered import from_chtml, from_katex, from_mathml, from_svg, is_readable
from mathquarry.data.extract.tex import LONGEST, tidy


@dataclass(frozen=True)
class Formula:
    """A node that stands for one formula; `kind` names the encoding its TeX was read from."""

    node: ElementNode
    tex: str
    display: bool
    kind: str


# MathML with a namespace prefix keeps the prefix in its tag names.
_MATH = r"math, mml\:math, m\:math"
_RENDERED = {"MathJax_Preview", "MathJax", "MathJax_Display", "MathJax_SVG", "MathJax_SVG_Display", "MathJax_CHTML", "MJXc-display"}
_RENDERINGS = ", ".join(f".{name}" for name in sorted(_RENDERED))
_DATA = ("data-latex", "data-tex", "data-expr", "data-math", "data-katex", "data-formula", "data-equation")
_ENCODED = (
    f"{_MATH}, {', '.join(f'[{name}]' for name in _DATA)}, .katex, .mwe-math-element, .wp-katex-eq, d-math, dt-math, .math-container, "
    '.js-render-math, script[type^="math/"], [data-mathml], mjx-container'
)
# What follows "math" in elements, classes and types of formulas, but not in a script's calls.
_NAMED_MATH = re.compile(rb"math[\s>/\"'=m-]")
_DATA_ENDS = tuple(name.removeprefix("data-").encode() for name in _DATA)
# Attributes with the address of an image, or with the address that a script loads it from.
_ADDRESSES = ("src", "data-src", "data-original", "data-actualsrc", "data-lazy-src", "data-original-src")
_LOOKS_LIKE_TEX = re.compile(r"[\\^_=+<>{}]|^\W*\w\W*$|^[-\d.,\s]+$")
_CDATA = re.compile(r"^\s*%?\s*<!\[CDATA\[|%?\s*\]\]>\s*$")


def may_have_encoded(source: bytes) -> bool:
    """Whether the source of a page, in lower case, may contain an element from `_ENCODED` other than MathJax's own."""
    place = source.find(b"math")
    if (place >= 0 and _NAMED_MATH.search(source, place)) or b"katex" in source:
        return True
    # Pages have many of these attributes, and splitting is the fastest way to look at all of them.
    return any(part.startswith(_DATA_ENDS) for part in source.split(b"data-")[1:])


def collect(tree: HTMLTree, may_have_encoded: bool = True, has_images: bool = True) -> tuple[list[Formula], list[ElementNode]]:
    """Formulas of a page, none inside another, and the nodes that only repeat one of them.

    `may_have_encoded` and `has_images` tell what is known of the page's source.
    """
    body = tree.body
    if body is None:
        return [], []
    encoded = may_have_encoded and body.query_selector(_ENCODED) is not None  # most pages have none: one search instead of a dozen
    finders = (*(_ENCODED_FINDERS if encoded else ()), *((_images,) if has_images else ()))
    candidates = [formula for finder in finders for formula in finder(body)]
    taken = {hash(formula.node) for formula in candidates}
    outside: set[int] = set()
    outermost: dict[int, Formula] = {}
    for formula in candidates:
        if not _inside(formula.node, taken, outside):
            outermost.setdefault(hash(formula.node), formula)
    # A renderer leaves its output beside the script it was made from. Without scripts, the output is the only source.
    repeats = body.query_selector_all(_RENDERINGS).values() if encoded and body.query_selector('script[type^="math/"]') else []
    # Without a doctype, selectors ignore case, and class="mathjax" marks text that MathJax should process.
    rendered = [node for node in repeats if not _RENDERED.isdisjoint(node.class_list)]
    return list(outermost.values()), [node for node in rendered if hash(node) not in taken and not _inside(node, taken, outside)]


def _inside(node: ElementNode, taken: set[int], outside: set[int]) -> bool:
    """Whether an element is inside one of `taken`; `outside` collects the elements around it that are not, since many nodes share them."""
    passed = []
    parent = node.parent_element
    while parent is not None and (place := hash(parent)) not in outside:
        if place in taken:
            return True
        passed.append(place)
        parent = parent.parent_element
    outside.update(passed)
    return False


def _formula(node: ElementNode, source: str | None, kind: str, display: bool = False) -> Iterator[Formula]:
    """Yields one formula, or none if there is no source."""
    tex, marked = tidy(source or "")
    if tex and len(tex) <= LONGEST:
        yield Formula(node, tex, display or marked, kind)


def _containers(body: ElementNode) -> Iterator[Formula]:
    """Elements that sites or renderers wrap around one formula: KaTeX, Temml, Wikipedia, Stack Exchange, wp-katex, Distill."""
    for node in body.query_selector_all(".katex").values():
        outer = node.closest(".katex-display")
        math, drawn = node.query_selector("math"), node.query_selector(".katex-html")
        source = math and _math_source(math)
        if source:
            yield from _formula(outer or node, source[0], "katex", outer is not None)
        elif drawn is not None:
            yield from _formula(outer or node, _read(drawn, from_katex), "katex-html", outer is not None)
    for node in body.query_selector_all(".mwe-math-element").values():
        image, math = node.query_selector("img"), node.query_selector("math")
        found = math and _math_source(math)
        display = "mwe-math-element-block" in node.class_list or bool(math and math.get_attribute("display") == "block")
        yield from _formula(node, found[0] if found else image and image.get_attribute("alt"), "wikipedia", display)
    for node in body.query_selector_all(".wp-katex-eq").values():
        yield from _formula(node, node.text, "wp-katex", node.get_attribute("data-display") == "true")
    for node in body.query_selector_all(".js-render-math").values():
        yield from _formula(node, node.text, "gitlab", node.get_attribute("data-math-style") == "display")
    for node in body.query_selector_all("d-math, dt-math").values():
        yield from _formula(node, node.text, "distill", node.has_attribute("block"))
    for node in body.query_selector_all(".math-container").values():
        if node.query_selector('script[type^="math/"], .katex, math, img, mjx-container') is None:
            yield from _formula(node, node.text, "math-container", node.tag == "div")


def _scripts(body: ElementNode) -> Iterator[Formula]:
    for node in body.query_selector_all('script[type^="math/"]').values():
        kind, _, mode = (node.get_attribute("type") or "").replace(" ", "").lower().partition(";")
        display, text = "mode=display" in mode, _CDATA.sub("", node.text or "")
        if kind == "math/tex":
            yield from _formula(node, text, "mathjax-script", display)
        elif kind == "math/asciimath":
            yield from _formula(node, asciimath.to_tex(text), "asciimath", display)
        elif kind == "math/mml":
            yield from _formula(node, _parsed_mathml(text), "mathml", display or 'display="block"' in text)


def _parsed_mathml(source: str) -> str | None:
    body = HTMLTree.parse(source).body
    math = body.query_selector(_MATH) if body is not None else None
    found = math and _math_source(math)
    return found[0] if found else None


def _mathjax(body: ElementNode) -> Iterator[Formula]:
    """MathJax output without its scripts: version 2 has the MathML in an attribute, version 3 and later have boxes or paths."""
    rendered = [] if body.query_selector('script[type^="math/"]') else body.query_selector_all("[data-mathml]").values()
    for node in rendered:
        outer = node.closest(".MathJax_Display, .MathJax_SVG_Display, .MJXc-display")
        yield from _formula(outer or node, _parsed_mathml(node.get_attribute("data-mathml") or ""), "mathjax-rendered", outer is not None)
    for node in body.query_selector_all("mjx-container").values():
        math, drawn = node.query_selector("math"), node.query_selector("mjx-math")
        display = node.get_attribute("display") == "true"
        if math is not None and (source := _math_source(math)):
            yield from _formula(node, source[0], "mathjax-assistive", display)
        elif drawn is not None:
            yield from _formula(node, _read(drawn, from_chtml), "mathjax-chtml", display)
        elif (picture := node.query_selector("svg")) is not None:
            yield from _formula(node, _read(picture, from_svg), "mathjax-svg", display)


def _math_elements(body: ElementNode) -> Iterator[Formula]:
    for node in body.query_selector_all(_MATH).values():
        if source := _math_source(node):
            yield from _formula(node, source[0], source[1], node.get_attribute("display") == "block" or "display" in node.class_list)


def _math_source(node: ElementNode) -> tuple[str, str] | None:
    """TeX of a MathML element and where it was found: the author's source if the page has it, else converted from the elements."""
    if annotation := _annotation(node):
        return annotation, "mathml-annotation"
    if alttext := node.get_attribute("alttext"):
        return alttext, "mathml-alttext"
    math = from_mathml(node)
    tex = to_tex(Element("mrow", children=[math])) if math is not None else ""
    return (tex, "mathml") if tex else None


def _read(node: ElementNode, reader: Callable[[ElementNode], list[Element]]) -> str:
    """TeX of a rendered formula; empty if it is nested too deeply."""
    return to_tex(Element("mrow", children=reader(node))) if is_readable(node) else ""


def _annotation(node: ElementNode) -> str | None:
    for annotation in node.query_selector_all("[encoding]").values():
        if "tex" in (annotation.get_attribute("encoding") or "").lower():
            return annotation.text
    return None


def _data_attributes(body: ElementNode) -> Iterator[Formula]:
    """Elements whose formula a script of the page would render."""
    for node in body.query_selector_all(", ".join(f"[{name}]" for name in _DATA)).values():
        source = next(value for name in _DATA if (value := node.get_attribute(name)) is not None)
        if _LOOKS_LIKE_TEX.search(source.strip()) and not source.lstrip().startswith(("{", "[", "<")):
            display = (node.get_attribute("data-display") or "").lower() in ("true", "block") or node.tag == "div"
            yield from _formula(node, source, "data-attribute", display)


def _images(body: ElementNode) -> Iterator[Formula]:
    for node in body.query_selector_all("img").values():
        addresses = tuple(address for name in _ADDRESSES if (address := node.get_attribute(name)))
        alt, classes, title = (unmarked(node.get_attribute(name) or "") for name in ("alt", "class", "title"))
        if found := image_formula(Picture(addresses, alt, classes, title)):
            source, display = found
            yield from _formula(node, source, "image", _stands_alone(node) if display is None else display)


def _stands_alone(node: ElementNode) -> bool:
    """Whether there is no text beside an image."""
    parent = node.parent_element
    return parent is not None and not (parent.text or "").strip()


_ENCODED_FINDERS = (_containers, _scripts, _mathjax, _math_elements, _data_attributes)
