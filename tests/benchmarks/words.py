"""How much of a page's main text an extracted text contains, and how much other text: precision, recall and F1 of words.

A word is a run of letters and digits in lower case, or one Chinese, Japanese or Korean character; a word counts as often as it stands
there. Written without a line of the extractor that it measures.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

FEWEST_WORDS = 20
"""Pages whose main text has fewer words are left out, since there one word changes too much."""
_CHARACTER = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af"
_WORD = re.compile(rf"[{_CHARACTER}]|[^\W{_CHARACTER}]+")
_INLINE = {
    *("a", "abbr", "b", "bdi", "big", "cite", "code", "del", "dfn", "em", "font", "i", "ins", "kbd", "label", "mark", "nobr", "q", "s"),
    *("samp", "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr"),
}


@dataclass(frozen=True)
class MainContent:
    """A page, and its main content according to people or to a rule that people checked."""

    name: str
    html: str
    text: str

    @property
    def is_tuning(self) -> bool:
        """Whether rules may be developed on this page; the others only measure them."""
        return hashlib.sha256(self.name.encode()).digest()[0] % 2 == 0


@dataclass(frozen=True)
class Agreement:
    """Shares of words."""

    precision: float
    recall: float
    f1: float


def read_main_content(path: Path) -> list[MainContent]:
    """The pages of `main-content.jsonl.xz` whose main text has at least `FEWEST_WORDS` words."""
    with lzma.open(path, "rt", encoding="utf-8") as file:
        records = map(json.loads, file)
        pages = [MainContent(record["name"], record["html"], text_of(record["main_html"])) for record in records]
    return [page for page in pages if words(page.text).total() >= FEWEST_WORDS]


def words(text: str) -> Counter[str]:
    """The words of a text."""
    return Counter(_WORD.findall(text.lower()))


def agreement(found: str, wanted: str) -> Agreement:
    """How well the words of `found` agree with those of `wanted`."""
    found_words, wanted_words = words(found), words(wanted)
    both = (found_words & wanted_words).total()
    precision, recall = both / max(found_words.total(), 1), both / max(wanted_words.total(), 1)
    return Agreement(precision, recall, 2 * precision * recall / (precision + recall) if both else 0.0)


def mean_agreement(pages: list[MainContent], extract: Callable[[str], str]) -> Agreement:
    """Means over the pages."""
    found = [agreement(extract(page.html), page.text) for page in pages]
    means = (sum(getattr(one, name) for one in found) / len(found) for name in ("precision", "recall", "f1"))
    return Agreement(*means)


def text_of(html: str) -> str:
    """All text of a piece of HTML without scripts and styles."""
    parser = _Text()
    parser.feed(html)
    parser.close()
    return "".join(parser.parts)


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._unseen = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._unseen += tag in ("script", "style")
        self._separate(tag)

    def handle_endtag(self, tag: str) -> None:
        self._unseen -= tag in ("script", "style") and self._unseen > 0
        self._separate(tag)

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.parts.append(data)

    def _separate(self, tag: str) -> None:
        if tag not in _INLINE:
            self.parts.append(" ")
