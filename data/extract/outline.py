"""Positions of a page's elements in its source, and the share of link text in each, without a tree.

A tree costs a few microseconds for each element accessed from Python, and boilerplate rules access most elements. Here tags are found and
measured with a few array operations. Only elements with their own end tag are included. Text is counted in UTF-8 bytes without white
space: a Chinese character carries about as much information as three letters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BLOCKS = (
    *(
        "article",
        "aside",
        "blockquote",
        "center",
        "dd",
        "details",
        "dialog",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
    ),
    *(
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "li",
        "main",
        "menu",
        "nav",
        "ol",
        "p",
        "pre",
        "section",
        "table",
        "tbody",
        "td",
    ),
    *("th", "tr", "ul"),
)
"""Elements that an outline contains."""
# Their content is not markup, or not visible in the text.
_RAW = ("iframe", "noembed", "noframes", "noscript", "script", "select", "style", "svg", "textarea", "title", "xmp")
_OTHERS = ("code", "image", "img", "kbd", "mjx", "samp", "sub", "sup", "template", "tt")  # only their presence is known
_NAMES = (*BLOCKS, *_RAW, "a", "!--", *_OTHERS)
_LENGTH = 8  # bytes of a name that are compared


def _key(name: str) -> int:
    return int.from_bytes(name.encode()[:_LENGTH].ljust(_LENGTH, b"\0"), "little")


_HASH_BITS = np.uint64(10)


def _hashed(keys: np.ndarray, factor: np.uint64) -> np.ndarray:
    return (keys * factor) >> (np.uint64(64) - _HASH_BITS)


def _table() -> tuple[np.uint64, np.ndarray, np.ndarray]:
    """(factor, keys, codes) of a hash table in which no two names share a place; free places have the code -1."""
    keys = np.array([_key(name) for name in _NAMES], dtype=np.uint64)
    factor = next(
        factor
        for factor in (np.uint64(0x9E3779B97F4A7C15 * odd % 2**64) for odd in range(1, 10_000, 2))
        if len(np.unique(_hashed(keys, factor))) == len(keys)
    )
    table, codes = np.zeros(1 << int(_HASH_BITS), dtype=np.uint64), np.full(1 << int(_HASH_BITS), -1, dtype=np.int16)
    table[_hashed(keys, factor)], codes[_hashed(keys, factor)] = keys, np.arange(len(keys))
    return factor, table, codes


_FACTOR, _KEYS, _CODES = _table()
CODE = {name: place for place, name in enumerate(_NAMES)}
_COMMENT, _LINK = CODE["!--"], CODE["a"]
_FIRST_RAW, _LAST_RAW = CODE[_RAW[0]], CODE[_RAW[-1]]
_LOWER, _ONE = np.uint64(int.from_bytes(b"\x20" * _LENGTH, "little")), np.uint64(1)
_PARAGRAPH = CODE["p"]


@dataclass(frozen=True)
class Outline:
    """The blocks of a page in the order of their start tags; each array has one number per block."""

    source: bytes
    code: np.ndarray
    """The element, as an index into `BLOCKS`."""
    start: np.ndarray
    """Position of the start tag."""
    inner: np.ndarray
    """Position after the start tag."""
    end: np.ndarray
    """Position after the end tag."""
    before: np.ndarray
    """Bytes of text on the page before the block."""
    text: np.ndarray
    """Bytes of text in the block."""
    linked: np.ndarray
    """Bytes of link text in the block."""
    links: np.ndarray
    """Number of links in the block."""
    total: int
    """Bytes of text on the page."""
    total_linked: int
    names: frozenset[str]
    """Names of the page's tags that are in `CODE`, including those in scripts and comments. "mjx" stands for all of MathJax's elements."""
    rise: int
    """The most by which start tags outnumber end tags anywhere, also counting those that do not nest."""

    def has(self, *names: str) -> bool:
        """Whether the page has a tag with one of these names. If not, no parser finds such an element."""
        return not self.names.isdisjoint(names)

    def tag(self, block: int) -> bytes:
        """The start tag of a block."""
        return self.source[self.start[block] : self.inner[block]]

    def content(self, block: int) -> bytes:
        """Source of a block without its start tag."""
        return self.source[self.inner[block] : self.end[block]]


def outline(source: bytes) -> Outline:
    """The outline of a page's source."""
    data = np.frombuffer(source + b"\0" * (128 - len(source) % 64), dtype=np.uint8)  # whole words, and at least one more
    start, end, code, closes = _tags(data, len(source))
    rise = largest_rise((code != _COMMENT) - 2 * closes.astype(np.int8))
    names = frozenset(_NAMES[name] for name in np.flatnonzero(np.bincount(code + 1)[1:]).tolist())
    start, end, code, closes = _without_raw(source, start, end, code, closes)
    following = np.append(start[1:], len(source))
    before = _Counts(data > 0x20)
    text = before[following] - before[np.minimum(end, following)]
    text[(code >= _FIRST_RAW) & (code <= _LAST_RAW) & ~closes] = 0
    # Text is in a link if the last link tag before it opened one that has an address.
    is_link = code == _LINK
    links = np.flatnonzero(is_link)
    opens = np.zeros(len(links) + 1, dtype=bool)  # the first is for text before all links
    opening = np.flatnonzero(~closes[links])
    spans = zip(opening.tolist(), start[links[opening]].tolist(), end[links[opening]].tolist(), strict=True)
    opens[[1 + link for link, first, last in spans if source.find(b"href", first, last) > 0]] = True
    state = opens[np.cumsum(is_link)]
    texts, linked, counts = (np.zeros(len(code) + 1, dtype=np.int64) for _ in range(3))
    np.cumsum(text, out=texts[1:])
    np.cumsum(text * state, out=linked[1:])
    counts[links + 1] = opens[1:]
    counts = np.cumsum(counts)
    first, last_tag = _matched(code, closes)
    return Outline(
        source,
        code[first],
        start[first],
        end[first],
        end[last_tag],
        texts[first],
        texts[last_tag] - texts[first],
        linked[last_tag] - linked[first],
        counts[last_tag] - counts[first],
        int(texts[-1]),
        int(linked[-1]),
        names,
        rise,
    )


def largest_rise(steps: np.ndarray) -> int:
    """The largest rise of the running sum above an earlier minimum."""
    depth = np.zeros(len(steps) + 1, dtype=np.int64)
    np.cumsum(steps, out=depth[1:])
    return int((depth - np.minimum.accumulate(depth)).max())


class _Counts:
    """How many flags are set before a place, for a few places among many flags: 64 flags are counted at once."""

    def __init__(self, flags: np.ndarray) -> None:
        self.words = np.packbits(flags, bitorder="little").view("<u8")
        self.before = np.zeros(len(self.words) + 1, dtype=np.int64)
        np.cumsum(np.bitwise_count(self.words), out=self.before[1:])

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        word = places >> 6
        earlier = (_ONE << (places & 63).view(np.uint64)) - _ONE
        return self.before[word] + np.bitwise_count(self.words[word] & earlier)


def _tags(data: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(start, end, code, whether it is an end tag) of everything written like a tag; other elements have the code -1.

    `data` is the source of this length, and zeros.
    """
    brackets = np.flatnonzero((data & 0xFD) == ord("<"))  # ">" differs in this bit only
    starts = data[brackets] == ord("<")
    start = brackets[starts]
    # The end of a tag is behind the next ">".
    behind = np.append(brackets[~starts] + 1, length)
    end = behind[np.cumsum(~starts)[starts]]
    closes = data[start + 1] == ord("/")
    name = start + 1 + closes
    first = data[name]
    comments = first == ord("!")
    comments &= (data[start + 2] == ord("-")) & (data[start + 3] == ord("-"))
    tags = np.flatnonzero(comments | ((first | 0x20) - ord("a") < 26))
    start, end, closes, comments = start[tags], end[tags], closes[tags], comments[tags]
    code = _codes(data, name[tags])
    code[comments] = _COMMENT
    return start, end, code, closes


def _codes(data: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Codes of the names that start at these places, read as one number each."""
    anywhere = np.ndarray(len(data) - _LENGTH + 1, dtype="<u8", buffer=data, strides=(1,))
    keys = anywhere[names] | _LOWER
    letters = keys.view(np.uint8)
    outside = ~((letters - ord("a") < 26) | (letters - ord("0") < 10))
    ends = outside.view("<u8")  # 1 in the byte of every character that cannot be in a name
    keys &= (ends & (~ends + _ONE)) - _ONE  # bytes before the first one
    places = _hashed(keys, _FACTOR).view(np.int64)
    return np.where(_KEYS[places] == keys, _CODES[places], np.int16(-1))


def _without_raw(
    source: bytes, start: np.ndarray, end: np.ndarray, code: np.ndarray, closes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Tags, except those in comments and in elements whose content is not markup; a comment counts as one tag."""
    raw = np.flatnonzero(((code >= _FIRST_RAW) & (code <= _LAST_RAW)) | (code == _COMMENT))
    rows = list(zip(raw.tolist(), code[raw].tolist(), closes[raw].tolist(), strict=True))
    ends_of: dict[int, list[int]] = {}  # last ones first
    for tag, name, is_end in reversed(rows):
        if is_end:
            ends_of.setdefault(name, []).append(tag)
    keep = np.ones(len(start), dtype=bool)
    beyond = 0  # earlier tags are inside the element just passed
    for tag, name, is_end in rows:
        if tag < beyond:
            continue
        if name == _COMMENT:
            found = source.find(b"-->", start[tag] + 4)
            end[tag] = len(source) if found < 0 else found + 3
            beyond = int(start.searchsorted(end[tag]))
            keep[tag + 1 : beyond] = False
        elif not is_end:
            ends = ends_of.get(name, [])
            while ends and ends[-1] < tag:
                ends.pop()
            if ends:
                beyond = ends[-1]
                keep[tag + 1 : beyond] = False
    kept = np.flatnonzero(keep)
    return start[kept], end[kept], code[kept], closes[kept]


def _matched(code: np.ndarray, closes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and end tags of the blocks. As in HTML, an end tag closes the last element of its name that is open."""
    blocks = np.flatnonzero((code >= 0) & (code < len(BLOCKS)))
    blocks = blocks[np.argsort(code[blocks], kind="stable")]  # each name's tags together, in order
    name, is_end = code[blocks].astype(np.int64), closes[blocks]
    # The running sum falls so much from one name to the next that its minimum starts anew there.
    fall = name * (2 * len(blocks) + 2)
    step = 1 - 2 * is_end
    before = np.cumsum(step) - step - fall
    level = before - np.minimum.accumulate(before) + ~is_end  # 0 for an end tag without a start tag
    level[name == _PARAGRAPH] = 0  # a paragraph ends at the start of the next one
    place = fall + level
    order = np.argsort(place, kind="stable")
    blocks, place, is_end = blocks[order], place[order], is_end[order]
    pairs = np.flatnonzero(is_end[1:] & ~is_end[:-1] & (place[1:] == place[:-1]))
    first, last = blocks[pairs], blocks[pairs + 1]
    order = np.argsort(first)
    return first[order], last[order]
