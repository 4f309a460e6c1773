"""Rescues main text that resiliparse drops because a name on a surrounding element looks like that of a banner or a menu.

On some pages, the element that contains the whole text has a class such as `share` or `banner-section`, or a style that a script would
change. Such names and styles are removed from every block, or group of similar blocks, that contains much of the page's plain text.
"""

from __future__ import annotations

import re

from mathquarry.data.extract.outline import CODE, Outline

LEAST_KEPT = 0.3
"""If the extracted text is less than this share of a page's plain text, the main part may be missing."""
MUCH_MORE = 1.5
"""How many times longer the new text must be to replace the old."""
_SHARE, _LEAST = 0.3, 80

_ATTRIBUTE = re.compile(
    rb"""(?i)\s(class|id|style|role|hidden|aria-hidden|aria-expanded)(?:\s*=\s*("[^"]*"|'[^']*'|[^\s>]+))?(?=[\s>/])""",
)
_SUSPECT = re.compile(
    rb"(?i)(?:^|[_-])ads?(?:$|[_-])|advert|sponsor|promot|paid|banner|donat|nav|menu|drop-?down|bread|links?|logo|modal|pop-?(?:up|in)|lightbox"
    rb"|print|foot|copyright|cookie|consent|legal|head|search|log-?in|sign|account|user|social|media|shar(?:e|ing)|syndicat|letter|follow|mail"
    rb"|like|feedback|facebook|twitter|subscri|hidden|invisible|collaps|display-none|expand|gallery|carousel|right|side|sticky|third|comment"
    rb"|reply|teaser|meta|subline|author|stamp|date|info|label|tag|keyword|categ|by-?line|submitted|skip|scroll|next|prev|permalink|pagina"
    rb"|count|spinner|trend|recommend|featur|popular|related|nocontent"
)
_BODY = re.compile(rb"(?i)<(?:body|html)\b[^>]*>")
_PLAIN_TAG = {CODE[name] for name in ("header", "footer", "aside", "form", "figure", "nav", "fieldset", "dialog", "details", "center")}
"""Elements that become a `<div>`."""


def without_names(page: Outline, cut: list[int]) -> bytes:
    """Source of a page without the blocks `cut`, and without names and styles that hide much of its text."""
    gone = [(int(page.start[block]), int(page.end[block])) for block in cut]
    plain = (page.text - page.linked).tolist()
    enough = max(_SHARE * (page.total - page.total_linked - sum(plain[block] for block in cut)), _LEAST)
    edits = [(start, end, b" ") for start, end in gone]
    for tag, blocks in _alike(page, plain, gone, enough).items():
        for block in blocks:
            start, inner, end = int(page.start[block]), int(page.inner[block]), int(page.end[block])
            renamed = _ATTRIBUTE.sub(_unsuspicious, tag)
            if page.code[block] in _PLAIN_TAG:
                renamed = re.sub(rb"^<\w+", b"<div", renamed)
                edits.append((page.source.rfind(b"</", inner, end), end, b"</div>"))
            edits.append((start, inner, renamed))
    for found in _BODY.finditer(page.source, 0, 20_000):
        edits.append((found.start(), found.end(), _ATTRIBUTE.sub(_unsuspicious, found[0])))
    parts, place = [], 0
    for start, end, new in sorted(edits):
        if start >= place:
            parts += [page.source[place:start], new]
            place = end
    return b"".join([*parts, page.source[place:]])


def _alike(page: Outline, plain: list[int], gone: list[tuple[int, int]], enough: float) -> dict[bytes, list[int]]:
    """Blocks by start tag, if those of one tag together contain enough text; without blocks in `gone`."""
    groups: dict[bytes, list[int]] = {}
    waiting = iter([*gone, (len(page.source) + 1, len(page.source) + 1)])
    start, end = next(waiting)
    for block, text in enumerate(plain):
        while page.start[block] >= end:
            start, end = next(waiting)
        if text > 0 and page.start[block] < start:
            groups.setdefault(page.tag(block), []).append(block)
    return {tag: blocks for tag, blocks in groups.items() if sum(plain[block] for block in blocks) >= enough}


def _unsuspicious(attribute: re.Match[bytes]) -> bytes:
    """An attribute without names and styles that may hide its element."""
    name, value = attribute[1].lower(), (attribute[2] or b"").strip(b"\"'")
    if name in (b"class", b"id"):
        kept = b" ".join(word for word in value.split() if not _SUSPECT.search(word))
        return b' %s="%s"' % (name, kept) if kept else b""
    if name == b"style" and not re.search(rb"(?i)none|hidden", value):
        return attribute[0]
    return b""
