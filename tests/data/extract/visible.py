"""Which visible characters of a page's main text an extraction lost.

A page's source is cut at tags into text nodes, and the nodes into blocks at every tag that is not inline. A block counts as kept when one
of its nodes with at least `TELLING` characters, in no link, stands in the extracted text. Of a kept block each node must stand there, in
order, right behind the one before: the characters of a node that does not are lost. White space counts for nothing. Formulas are apart:
elements that draw or hold them, raised and lowered text, and nodes with TeX's delimiters are not looked for, and may be anything in the
extracted text. So may what a browser hides or what is no running text: scripts, forms, hidden elements, marks of notes.
"""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

TELLING = 20
"""Characters of a node that do not occur by chance."""
_BESIDE = 8  # characters that extraction may put between two nodes, such as a bullet
_FORMULA = 2500  # the most that may stand there for what is apart
_MOST_PLACES = 200  # where the same words stand again
_FAR = 100_000  # as far as a block reaches
_APART_MARK = "\x00"

_PIECE = re.compile(
    r"<!--.*?(?:-->|\Z)|<(?P<raw>script|style|noscript|textarea|select|title|iframe|object|svg|math|button|xmp)\b.*?(?:</(?P=raw)\s*>|\Z)"
    r"|<(?P<end>/?)(?P<tag>[a-z][^\s/>]*)(?P<attributes>(?:[^>\"']|\"[^\"]*\"|'[^']*')*)>|<[!?/][^>]*>|(?P<text>[^<]+|<)",
    re.IGNORECASE | re.DOTALL,
)
_INLINE = {
    *("a", "abbr", "b", "bdi", "big", "cite", "code", "del", "dfn", "em", "font", "i", "ins", "kbd", "mark", "nobr", "q", "s", "samp"),
    *("small", "span", "strike", "strong", "time", "tt", "u", "var", "wbr"),
}
_VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"}
_APART = {"sub", "sup", "label", "template", "d-math", "dt-math", "mjx-container", "annotation", "audio", "video", "canvas", "form"}
_APART_NAMES = re.compile(
    r"(?i)katex|mathjax|mjx|math|latex|\btex\b|hidden|invisible|sr-only|screen-?reader|display:\s*none|visibility:\s*hidden|anchor|permalink"
    r"|headerlink|editsection|collapse|noprint|skip|share|social|comment|reply|tooltip|popup|button|btn|icon|reference|footnote|cite"
)
_TEX = re.compile(r"\$|\\[(\[a-zA-Z]|`|\[/?(?:i?tex|math|latex)\]")
_SPACE = re.compile(r"[\s\u200b-\u200f\u2060\ufeff\ue000-\uf8ff\u00ad]+")


@dataclass
class _Block:
    """Text nodes without white space, and those of them that tell whether the block was kept. Links do not tell: menus have them, too."""

    nodes: list[str]
    telling: list[str]


@dataclass
class Lost:
    """Characters of kept blocks, and which of them are lost."""

    characters: int
    nodes: list[str]

    @property
    def lost(self) -> int:
        """How many are lost."""
        return sum(map(len, self.nodes))

    @property
    def lone(self) -> list[str]:
        """Lost nodes of three bytes in UTF-8, such as `≤`: resiliparse itself drops these (see `data/extract/lone.py`)."""
        return [node for node in self.nodes if len(node.encode("utf-8", "replace")) == 3 and not node.isascii()]


def lost(source: str, text: str) -> Lost:
    """The characters that a page's text lost of the blocks that it kept."""
    squeezed = _SPACE.sub("", text)
    found = Lost(0, [])
    for block in _blocks(source):
        nodes = [node for node in block.nodes if node != _APART_MARK]
        telling = next((node for node in block.telling if node in squeezed), None)
        if telling is None:
            continue
        found.characters += sum(map(len, nodes))
        if "".join(nodes) not in squeezed:
            places = itertools.islice((match.start() for match in re.finditer(re.escape(telling), squeezed)), _MOST_PLACES)
            split = block.nodes.index(telling)
            found.nodes += min(
                (_missing(block.nodes, squeezed, split, place) for place in places), key=lambda missing: sum(map(len, missing))
            )
    return found


def _missing(block: list[str], text: str, telling: int, place: int) -> list[str]:
    """Nodes of a block that are missing in the text if the `telling`th is at `place`."""
    behind = _follow(block[telling:], text[place:])
    before = _follow([node[::-1] for node in block[:telling]][::-1], text[max(0, place - _FAR) : place][::-1])
    return [node[::-1] for node in before] + behind


def _follow(nodes: list[str], text: str) -> list[str]:
    """Nodes that are not in the text in order, from its beginning."""
    missing, cursor, is_loose = [], 0, False
    for node in nodes:
        if node == _APART_MARK:
            is_loose = True
            continue
        reach = _FORMULA if is_loose or len(node) >= TELLING else _BESIDE
        found = text.find(node, cursor, cursor + reach + len(node))
        if found < 0:
            missing.append(node)
        elif not is_loose or len(node) >= TELLING // 2:  # a short one may also stand in the formula
            cursor, is_loose = found + len(node), False
    return missing


def _blocks(source: str) -> Iterator[_Block]:
    """Blocks of a page in order."""
    block = _Block([], [])
    in_link = False
    apart: list[str] = []  # open elements, from the outermost that is not looked at
    for piece in _PIECE.finditer(source):
        if (text := piece["text"]) is not None:
            node = _SPACE.sub("", html.unescape(text))
            if apart or _TEX.search(text):
                block.nodes.append(_APART_MARK)
            elif node:
                block.nodes.append(node)
                if len(node) >= TELLING and not in_link:
                    block.telling.append(node)
            continue
        if piece["tag"] is None:
            block.nodes.append(_APART_MARK)
            continue
        tag = piece["tag"].lower()
        if tag == "a":
            in_link = not piece["end"]
        if tag in _VOID:
            block.nodes.append(_APART_MARK)
        elif piece["end"]:
            if tag in apart:
                del apart[len(apart) - 1 - apart[::-1].index(tag) :]
        elif apart or tag in _APART or ":" in tag or (tag in _INLINE and _APART_NAMES.search(piece["attributes"])):
            apart.append(tag)
            block.nodes.append(_APART_MARK)
        if tag not in _INLINE and tag not in _APART and tag != "img" and block.nodes:
            yield block
            block = _Block([], [])
    if block.nodes:
        yield block
