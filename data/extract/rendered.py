"""Converts renderer output without a source to `Element` trees: MathML itself, MathJax 3 (CHTML, SVG), KaTeX.

MathJax keeps the structure of MathML and writes characters as code points in class names (`mjx-c1D465`) or attributes (`data-c`).
KaTeX keeps only boxes. Scripts, fractions, roots and limits are read from its classes and from the order of its vertical lists, whose
entries go from bottom to top.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from resiliparse.parse.html import ElementNode

from mathquarry.data.extract.lone import unmarked
from mathquarry.data.extract.mathml import Element

DEEPEST = 150
"""Levels of nesting; deeper formulas are skipped, since their reader recurses once per level."""

_CLASS_CODE = re.compile(r"(?:^|\s)mjx-c([0-9A-F]{1,6})(?:\s|$)")
_HEIGHT = re.compile(r"translate\([^,)]*,\s*(-?[\d.]+)")
_TEXT_ALIGN = re.compile(r"text-align:\s*(left|center|right)")
_LEAVES = {"mi", "mn", "mo", "mtext"}
_SCRIPTS = {"msub", "msup", "msubsup"}
_LIMITS = {"munder", "mover", "munderover"}


def children_of(node: ElementNode) -> Iterator[ElementNode]:
    """Element children, in order."""
    child = node.first_element_child
    while child is not None:
        yield child
        child = child.next_element_sibling


def is_readable(node: ElementNode) -> bool:
    """Whether a formula is nested at most `DEEPEST` levels."""
    stack = [(node, 1)]
    while stack:
        current, depth = stack.pop()
        if depth > DEEPEST:
            return False
        stack += [(child, depth + 1) for child in children_of(current)]
    return True


def from_mathml(node: ElementNode, level: int = 1) -> Element | None:
    """A `<math>` element, prefixed or not; None if it is nested too deeply."""
    if level > DEEPEST:
        return None
    children = []
    for child in children_of(node):
        if (element := from_mathml(child, level + 1)) is None:
            return None
        children.append(element)
    text = "" if children else unmarked(node.text or "")
    return Element(_name(node), text, children, {name: node.get_attribute(name) or "" for name in node.attribute_names})


def _name(node: ElementNode) -> str:
    return (node.tag or "").rpartition(":")[2].lower()


def _row(children: list[Element]) -> Element:
    return children[0] if len(children) == 1 else Element("mrow", children=children)


def _text_of(elements: list[Element]) -> str:
    return "".join(element.text + _text_of(element.children) for element in elements)


def _character(code: str) -> str:
    value = int(code, 16)
    return chr(value) if 0x20 <= value < 0x110000 and not 0xD800 <= value < 0xE000 else ""


def _variant(marks: str) -> str:
    """The alphabet whose plain letters MathJax draws with another font; other alphabets have their own characters."""
    return "script" if "mjx-cal" in marks or "TEX-C-" in marks else ""


def from_chtml(node: ElementNode) -> list[Element]:
    """Elements of MathJax 3's CHTML output under `node`: `<mjx-msup><mjx-mi><mjx-c class="mjx-c1D465">`."""
    return [element for child in children_of(node) for element in _chtml(child)]


# Drawn lines, and boxes that only keep a height.
_CHTML_FURNITURE = {"assistive-mml", "surd", "spacer", "line", "dstrut", "nstrut", "strut", "linestrut", "sstrut", "tstrut", "mark"}


def _chtml_name(node: ElementNode) -> str:
    return _name(node).removeprefix("mjx-")


def _chtml(node: ElementNode) -> list[Element]:
    name = _chtml_name(node)
    if name in _CHTML_FURNITURE:
        return []
    if name in ("c", "utext"):
        code = _CLASS_CODE.search(node.get_attribute("class") or "")
        return [Element("mo", _character(code[1]) if code else unmarked(node.text or ""))]
    if name.startswith("stretchy"):
        code = _CLASS_CODE.search(node.get_attribute("class") or "")
        return [Element("mo", _character(code[1]) if code else "")]
    if name in _LEAVES:
        variant = _variant(node.get_attribute("class") or "")
        return [Element(name, _text_of(from_chtml(node)), attributes={"mathvariant": variant})]
    if name == "mfrac":
        line = {"linethickness": "0"} if node.query_selector("[atop]") is not None else {}
        return [Element(name, children=[_chtml_part(node, "num"), _chtml_part(node, "den")], attributes=line)]
    if name in _SCRIPTS or (name in _LIMITS and _boxes(node, "script")):  # in running text, limits are beside their sign
        scripts = [_row(_chtml(child)) for box in _boxes(node, "script") for child in children_of(box) if _chtml(child)]
        # The upper script comes first.
        return [Element(name, children=[_chtml_rest(node, {"script"}), *reversed(scripts)])]
    if name in _LIMITS:
        base = _chtml_part(node, "base") if _boxes(node, "base") else _chtml_rest(node, {"under", "over"})
        limits = {part: _chtml_part(node, part) for part in ("under", "over") if _boxes(node, part)}
        if len(limits) == 1 and base.name in _LIMITS and len(base.children) == 2:
            # MathJax draws a sign with two limits as one with the lower limit, under the upper one.
            inner = "under" if base.name == "munder" else "over"
            if inner not in limits:
                base, limits[inner] = base.children
        parts = [limits[part] for part in ("under", "over") if part in limits]
        return [Element("munderover" if len(parts) == 2 else f"m{next(iter(limits))}" if limits else name, children=[base, *parts])]
    if name == "msqrt":
        return [Element(name, children=[_chtml_part(node, "box")])]
    if name == "mroot":
        return [Element(name, children=[_chtml_part(node, "box"), _chtml_part(node, "root")])]
    if name == "mtable":
        return [_chtml_table(node)]
    if name in ("mtr", "mlabeledtr", "mtd"):
        return [Element(name, children=from_chtml(node), attributes=_aligned(node))]
    return from_chtml(node)


def _aligned(node: ElementNode) -> dict[str, str]:
    """The alignment in a cell's style, as a MathML attribute."""
    style = _TEXT_ALIGN.search(node.get_attribute("style") or "")
    return {"columnalign": style[1]} if style else {}


def _chtml_table(node: ElementNode) -> Element:
    """A table. Its row labels are in a separate table beside it, with as many rows."""
    beside = next((child for child in children_of(node) if _chtml_name(child) == "labels"), None)
    rows = [row for child in children_of(node) if _chtml_name(child) != "labels" for row in _chtml(child)]
    labels = from_chtml(beside) if beside is not None else []
    if len(labels) == len(rows):
        for row, label in zip(rows, labels, strict=True):
            if label.children and _text_of([label]).strip():
                row.name, row.children = "mlabeledtr", [label.children[0], *row.children]
    return Element("mtable", children=rows)


def _boxes(node: ElementNode, name: str) -> list[ElementNode]:
    """Boxes of this name under `node` that belong to it, not to a formula part inside it."""
    found: list[ElementNode] = []
    for child in children_of(node):
        own = _chtml_name(child)
        if own == name:
            found.append(child)
        elif own not in _LEAVES | _SCRIPTS | _LIMITS | {"mfrac", "msqrt", "mroot", "mtable"}:
            found += _boxes(child, name)
    return found


def _chtml_part(node: ElementNode, name: str) -> Element:
    return _row([element for box in _boxes(node, name) for element in from_chtml(box)])


def _chtml_rest(node: ElementNode, without: set[str]) -> Element:
    return _row([element for child in children_of(node) if _chtml_name(child) not in without for element in _chtml(child)])


def from_svg(node: ElementNode) -> list[Element]:
    """Elements of MathJax 3's SVG output under `node`: `<g data-mml-node="mi"><use data-c="1D465">`."""
    return [element for child in children_of(node) for element in _svg(child)]


def _svg(node: ElementNode) -> list[Element]:
    name = (node.get_attribute("data-mml-node") or "").lower()
    if code := node.get_attribute("data-c"):
        return [Element("mo", _character(code))] if re.fullmatch(r"[0-9A-Fa-f]{1,6}", code) else []
    if name in _LEAVES:
        glyph = node.query_selector("use")
        variant = _variant((glyph.get_attribute("xlink:href") or glyph.get_attribute("href") or "") if glyph is not None else "")
        return [Element(name, _text_of(from_svg(node)), attributes={"mathvariant": variant})]
    parts = [_row(_svg(child)) for child in children_of(node) if _name(child) == "g"]
    if name in _SCRIPTS | _LIMITS:
        groups = [child for child in children_of(node) if _name(child) == "g"][1:]
        heights = [float(found[1]) if (found := _HEIGHT.search(group.get_attribute("transform") or "")) else 0.0 for group in groups]
        # Heights count upwards: the lower script comes first.
        order = sorted(range(len(groups)), key=heights.__getitem__)
        return [Element(name, children=[*parts[:1], *(parts[1 + place] for place in order)])]
    if name in ("msqrt", "mroot"):
        return [Element(name, children=[part for part in parts if part.text != "√"])]
    if name == "mfrac":
        line = {} if any(_name(child) == "rect" for child in children_of(node)) else {"linethickness": "0"}
        return [Element(name, children=parts, attributes=line)]
    if name in ("mtable", "mtr", "mlabeledtr", "mtd"):
        return [Element(name, children=parts)]
    return from_svg(node)


def from_katex(node: ElementNode) -> list[Element]:
    """Elements of KaTeX's HTML under `node`."""
    found: list[Element] = []
    for child in children_of(node):
        if "msupsub" in _classes(child):
            base = found.pop() if found else Element("mrow")
            entries = _vertical(child)
            # The second row of a list holds its depth; only lists that extend below the line have one.
            below = child.query_selector(".vlist-t2") is not None
            name = "msubsup" if len(entries) > 1 else "msub" if below else "msup"
            found.append(Element(name, children=[base, *(_row(from_katex(entry)) for entry in entries)]))
        else:
            found += _katex(child)
    return found


_KATEX_FURNITURE = {"strut", "pstrut", "vlist-s", "nulldelimiter", "mathml", "root"}
_KATEX_LINES = {"frac-line", "hide-tail", "overline-line", "underline-line"}
_KATEX_ALIGNMENT = {"col-align-l": "left", "col-align-c": "center", "col-align-r": "right"}
_KATEX_ALPHABETS = {"mathbb": "double-struck", "mathcal": "script", "mathscr": "script", "mathfrak": "fraktur", "mathbf": "bold"}


def _classes(node: ElementNode) -> set[str]:
    """KaTeX class names; in newer versions (such as 0.19.1) some begin with `katex-`."""
    return {name.removeprefix("katex-") for name in node.class_list}


def _katex(node: ElementNode) -> list[Element]:
    classes = _classes(node)
    if classes & _KATEX_FURNITURE:
        return []
    if node.first_element_child is None:
        return _katex_leaf(classes, unmarked(node.text or "").translate({0x200B: None}))
    entries = _vertical(node)
    if "mfrac" in classes:
        line = {} if _has_line(node) else {"linethickness": "0"}
        return [Element("mfrac", children=[_row(from_katex(entry)) for entry in reversed(entries)], attributes=line)]
    if "sqrt" in classes:
        content = [_row(from_katex(entry)) for entry in entries[:1]]
        index = next((child for child in children_of(node) if "root" in _classes(child)), None)
        return [Element("mroot", children=[*content, _row(from_katex(index))]) if index else Element("msqrt", children=content)]
    if "op-limits" in classes:
        operator = next((place for place, entry in enumerate(entries) if entry.query_selector(".mop") is not None), 0)
        parts = [_row(from_katex(entry)) for entry in entries]
        name = "munderover" if len(parts) > 2 else "munder" if operator else "mover"
        return [Element(name, children=[parts.pop(operator), *parts])] if len(parts) > 1 else parts
    if "accent" in classes and len(entries) > 1:
        # An arrow is a drawing without a character.
        mark = _text_of(from_katex(entries[1])) or "→"
        return [Element("mover", children=[_row(from_katex(entries[0])), Element("mo", mark)])]
    if "overline" in classes:
        return [Element("mover", children=[_row([part for entry in entries for part in from_katex(entry)]), Element("mo", "¯")])]
    if "mtable" in classes:
        drawn = [child for child in children_of(node) if child.query_selector(".vlist")]
        alignment = " ".join(_KATEX_ALIGNMENT.get(min(_classes(child) & _KATEX_ALIGNMENT.keys(), default=""), "center") for child in drawn)
        rows = zip(*[[_row(from_katex(entry)) for entry in _vertical(child)] for child in drawn], strict=False)
        cells = [Element("mtr", children=[Element("mtd", children=[cell]) for cell in row]) for row in rows]
        return [Element("mtable", children=cells, attributes={"columnalign": alignment})]
    if "text" in classes:
        return [Element("mtext", unmarked(node.text or ""))]
    return from_katex(node)


def _katex_leaf(classes: set[str], text: str) -> list[Element]:
    if not text.strip():
        return []
    if "text" in classes:
        return [Element("mtext", text)]
    if "mop" in classes:
        return [Element("mi", text)]
    variant = next((_KATEX_ALPHABETS[name] for name in classes if name in _KATEX_ALPHABETS), "")
    if variant or "mathnormal" in classes:
        return [Element("mi", letter, attributes={"mathvariant": variant}) for letter in text]
    return [Element("mo" if not text.isalnum() else "mi" if text.isalpha() else "mn", text)]


def _has_line(node: ElementNode) -> bool:
    return any(_classes(entry) & _KATEX_LINES for entry in node.query_selector_all("span").values())


def _vertical(node: ElementNode) -> list[ElementNode]:
    """Entries of the first vertical list under `node` (not the index of a root), without drawn lines."""
    lists = [child for child in children_of(node) if "vlist-t" in child.class_list]
    vertical = (lists[0] if lists else node).query_selector(".vlist")
    entries = list(children_of(vertical)) if vertical is not None else []
    return [entry for entry in entries if not any(_classes(child) & _KATEX_LINES for child in children_of(entry))]
