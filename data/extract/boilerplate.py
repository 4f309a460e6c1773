"""Finds blocks of a page that do not belong to its text: menus, lists of links, surrounding material, comments under an article.

resiliparse's rules look at each element alone. These rules compare blocks with the whole page, and run before them. A block that may
contain a formula always stays. A rule removes outermost blocks first. Each rule has a limit, a share of the page's plain text (text
outside links); if it would exceed the limit, the rule does not fit the page and removes nothing.

1. A block that is mostly links (`MOST_LINKED`).
2. A block under a heading such as "Related posts" or "Leave a reply".
3. A block whose class, id or role marks it as boilerplate (`names.py`).
4. A block with some links outside the main part, which is the smallest block that contains most long pieces of text.
5. Comments under an article. They stay if they are the text: in forums, under questions, and if the page has little else.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from mathquarry.data.extract.names import ANY_POST, ELSEWHERE, POSTS, may_have_formula, name_of
from mathquarry.data.extract.outline import BLOCKS, CODE, Outline

MOST_LINKED = 0.5
"""A block with at least this share of its text in links is a list of links."""
_LINKED = {CODE["p"]: 0.75, CODE["ol"]: 0.8, CODE["dl"]: 2.0}  # prose, sources and definitions have more links
_LEAST_LINKS = 3
_LEAST_PLAIN = 0.1
_MOST_UNDER_HEADING = 0.3
_MOST_NAMED, _MOST_OF_A_NAME, _MOST_COMMENTS_OF_PAGE = 0.1, 0.2, 0.8
_LEAST_NAMED = len("<p id=a>") + 1
_MOST_BESIDE, _MOST_BESIDE_TOGETHER = 0.2, 0.2
_LINKED_BESIDE = 0.15
_LONG, _MAIN, _LEAST_MAIN = 80, 0.6, 800
"""Bytes of a long piece of text; share of all long pieces in the main part; least bytes of them."""
_ARTICLE, _MOST_COMMENTS, _LEAST_ELSE = 1000, 0.6, 2000
_FORUM_POSTS = 3

Flags = NDArray[np.bool_]


def _are(*names: str) -> Flags:
    """Which of `BLOCKS` these are."""
    return np.isin(BLOCKS, names)


_IS_ROW = _are("main", "tbody", "tr")
"""Removed only together with the elements they belong to."""
_FIRST_HEADING, _LAST_HEADING = CODE["h1"], CODE["h6"]
_IS_PART = _are("dd", "dt", "th", "li", "pre", "blockquote")
"""Parts of a text that may consist of one link, as headings may."""
_MOST_LINKED_OF = np.array([_LINKED.get(code, MOST_LINKED) for code in range(len(BLOCKS))])
_MARKUP = re.compile(rb"<[^>]*>")
_LINKS, _BESIDE, _COMMENTS = b"links", b"beside", b"comments"


def boilerplate(page: Outline) -> list[int]:
    """The blocks of a page that do not belong to its text, in order, none inside another. Empty if nearly all text is links."""
    if page.total - page.total_linked < _LEAST_PLAIN * page.total:
        return []  # an index of links has no other content
    return _Rules(page).boilerplate()


def without(page: Outline, blocks: list[int]) -> bytes:
    """The page's source without `blocks`, which are in order and not nested."""
    kept, place = [], 0
    for block in blocks:
        kept += [page.source[place : page.start[block]], b" "]
        place = int(page.end[block])
    return b"".join([*kept, page.source[place:]])


class _Rules:
    """The rules for one page. Array operations select the few blocks that a rule may apply to; only those are looked at one by one."""

    def __init__(self, page: Outline) -> None:
        self.page = page
        self.plain = page.text - page.linked
        self.all_plain = page.total - page.total_linked
        self.share = self.plain / self.all_plain if self.all_plain else np.zeros(len(self.plain))
        self.is_heading = (page.code >= _FIRST_HEADING) & (page.code <= _LAST_HEADING)

    def boilerplate(self) -> list[int]:
        under = self._under_headings()
        main_start, main_end = self._main_part()
        beside = (self.page.end <= main_start) | (self.page.start >= main_end)
        is_links, has_links = self._linked(beside)
        is_links[list(under)] = True
        may_be_named = ~self.is_heading & (self.page.inner - self.page.start >= _LEAST_NAMED) & (self.share < _MOST_COMMENTS_OF_PAGE)
        blocks = np.flatnonzero((self.page.text > 0) & ~_IS_ROW[self.page.code] & (is_links | has_links | may_be_named))
        columns = (self.page.start, self.page.inner, self.page.end, self.share, is_links, has_links, may_be_named)
        rows = zip(blocks.tolist(), *(column[blocks].tolist() for column in columns), strict=True)
        source = self.page.source
        taken: dict[bytes, list[int]] = {}
        beyond = 0
        for block, start, inner, end, share, links, some_links, named in rows:
            if start < beyond:
                continue
            rule = _LINKS if links else _rule(source[start:inner].lower(), share, some_links, named)
            if rule and not self._may_have_formula(source[start:end].lower()):
                taken.setdefault(rule, []).append(block)
                beyond = end
        comments = taken.pop(_COMMENTS, [])
        found = comments if comments and not self._are_text(comments) else []
        for rule, blocks_of_rule in taken.items():
            most = 1.0 if rule == _LINKS else _MOST_BESIDE_TOGETHER if rule == _BESIDE else _MOST_OF_A_NAME
            if int(self.plain[blocks_of_rule].sum()) <= most * self.all_plain:
                found = found + blocks_of_rule
        return sorted(found)

    def _may_have_formula(self, source: bytes) -> bool:
        return may_have_formula(source) or (self.page.has("mjx") and b"<mjx" in source)

    def _linked(self, beside: Flags) -> tuple[Flags, Flags]:
        """Which blocks are lists of links, and which are beside the main part and have some links."""
        page = self.page
        can_be_link = self.is_heading | (_IS_PART[page.code] & ~beside)
        is_small = self.share < _MOST_BESIDE
        is_links = (page.links >= _LEAST_LINKS) & (page.linked >= _MOST_LINKED_OF[page.code] * page.text) & is_small & ~can_be_link
        has_links = beside & (page.links >= 2) & (page.linked >= _LINKED_BESIDE * page.text) & is_small & ~self.is_heading
        return is_links, has_links

    def _under_headings(self) -> set[int]:
        """For each heading of unrelated material, the largest block that starts with it."""
        found: set[int] = set()
        page = self.page
        headings = np.flatnonzero((page.text > 0) & (page.text < _LONG) & self.is_heading)
        for block, inner, end in zip(headings.tolist(), page.inner[headings].tolist(), page.end[headings].tolist(), strict=True):
            title = _MARKUP.sub(b"", page.source[inner:end]).decode("utf-8", "replace").strip()
            if not ELSEWHERE.match(title.lower()):
                continue
            largest = None
            # The elements that contain the heading, from the inside out.
            for outer in np.flatnonzero(page.end[:block] >= end)[::-1].tolist():
                if page.before[block] - page.before[outer] > 25 or self.plain[outer] > _MOST_UNDER_HEADING * self.all_plain:
                    break
                if not _IS_ROW[page.code[outer]]:
                    largest = outer
            if largest is not None:
                found.add(largest)
        return found

    def _main_part(self) -> tuple[int, int]:
        """Start and end of the smallest block that contains most long pieces of text; the whole page if there are few."""
        page = self.page
        innermost = np.append(page.start[1:], len(page.source)) >= page.end
        pieces = np.flatnonzero(innermost & (self.plain >= _LONG) & (2 * page.linked < page.text))
        sums = np.concatenate([[0], np.cumsum(self.plain[pieces])])
        if len(pieces) < 3 or sums[-1] < _LEAST_MAIN:
            return 0, len(page.source)
        starts = page.start[pieces]
        inside = sums[np.searchsorted(starts, page.end)] - sums[np.searchsorted(starts, page.start)]
        holding = np.flatnonzero(inside >= _MAIN * sums[-1])
        return (int(page.start[holding[-1]]), int(page.end[holding[-1]])) if len(holding) else (0, len(page.source))

    def _are_text(self, comments: list[int]) -> bool:
        """Whether the blocks named as comments are a forum, or the page's only content."""
        page = self.page
        first, written = page.start[comments[0]], int(self.plain[comments].sum())
        spans = [(page.start[block], page.end[block]) for block in comments]
        posts = 0
        for block in np.flatnonzero(self.plain >= _LONG / 2).tolist():
            if POSTS.search(name_of(page.tag(block).lower())[0]):
                posts += not any(start <= page.start[block] < end for start, end in spans)
        if posts >= _FORUM_POSTS:
            return True
        told = int(self.plain[(page.code == CODE["p"]) & (page.start < first) & (self.plain >= _LONG)].sum())
        return told < _ARTICLE and (written > _MOST_COMMENTS * self.all_plain or self.all_plain - written < _LEAST_ELSE)


def _rule(tag: bytes, share: float, some_links: bool, named: bool) -> bytes | None:
    """The rule that removes a block with this start tag that is no list of links; for rule 3, the name that matched.

    `share` is the block's share of the page's plain text. None if it exceeds the rule's limit.
    """
    if some_links and not ANY_POST.search(tag):
        return _BESIDE
    name, kind = name_of(tag) if named else (b"", None)
    if kind is None:
        return None
    return _COMMENTS if kind == "comments" else name if share < _MOST_NAMED else None
