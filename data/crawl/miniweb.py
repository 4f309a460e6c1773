"""The generated mini-web: a crawl with known answers, written as real WARC files (our own, for the `tiny` recipe).

There are three kinds of hosts: mathematical ones, mixed ones where only `/math/` is mathematical, and others. Mathematical
pages write their formulas in eight encodings; about a third have none, so a classifier that learns from pages full of
formulas has something to discover. Planted pages are lightly edited copies on other hosts, captures of a URL in another
spelling, and pages that quote a held-out problem. `truth.jsonl` says what every capture is.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from mathquarry.data.crawl.config import GeneratedCrawl
from mathquarry.data.crawl.miniweb_document import Document, Paragraph, Tex, map_words
from mathquarry.data.crawl.miniweb_html import INLINE_ONLY, render
from mathquarry.data.crawl.miniweb_math import PLAIN_VOICES, ExerciseBook, HeldOut, math_document
from mathquarry.data.crawl.miniweb_sites import Site, make_sites
from mathquarry.data.crawl.miniweb_topics import topic_document
from mathquarry.data.crawl.warc_writer import WarcWriter
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import atomic_path, write_json_lines
from mathquarry.data.problems.problem import Problem
from mathquarry.data.store.workspace import Workspace

Label = Literal["math", "math_plain", "other"]

TRUTH = "truth.jsonl"
FIRST_DATE = datetime(2024, 3, 1, 6, 0, 0, tzinfo=UTC)
"""WARC date of the first record; each next one is `_INTERVAL` later."""
_INTERVAL = timedelta(seconds=7)

_PLAIN_SHARE = 0.3
"""Share of mathematical pages without formulas."""
_MATH_ON_MIXED = 0.25
"""Share of mathematical pages that are on mixed hosts."""
_OTHER_ON_MATH, _OTHER_ON_MIXED = 0.06, 0.12
"""Shares of the other pages that are on mathematical and on mixed hosts."""

_FILLERS = ("really", "also", "today", "again", "perhaps", "of course", "indeed", "in fact")
_WORDS_AN_EDIT = 80
_MOST_EDITS = 4
"""A copy has one or two words inserted per 80 words, in four places at most: the Jaccard similarity of word 5-grams stays above 0.85."""


@dataclass(frozen=True)
class Capture:
    """One HTML response of the crawl and the truth about it."""

    url: str
    site: Site
    label: Label
    document: Document
    encoding: str
    duplicate_of: str | None = None
    url_duplicate_of: str | None = None
    contaminated_by: str | None = None

    def truth(self) -> dict[str, str | None]:
        """Its line of truth.jsonl."""
        path = urlsplit(self.url).path
        return {
            "url": self.url,
            "host": self.site.host,
            "path_prefix": path[: path.index("/", 1) + 1],
            "label": self.label,
            "duplicate_of": self.duplicate_of,
            "url_duplicate_of": self.url_duplicate_of,
            "contaminated_by": self.contaminated_by,
            "encoding": self.encoding if self.label == "math" else None,
        }


def generate_miniweb(
    config: GeneratedCrawl, train: list[Problem], test: list[Problem], seed: int, workspace: Workspace
) -> tuple[list[Path], dict[str, int]]:
    """Write warc/*.warc.gz and truth.jsonl to `workspace.out`; returns the WARC files and counts.

    Equal arguments give equal bytes. Raises `MathQuarryError` when `config` asks for more planted pages than there is room for.
    """
    captures = make_captures(config, train, test, seed)
    files = _write_warcs(captures, config.warc_files, workspace)
    write_json_lines(workspace.out / TRUTH, (capture.truth() for capture in captures))
    mathematical = [capture for capture in captures if capture.label != "other"]
    return files, {
        "pages": len(captures),
        "hosts": len({capture.site.host for capture in captures}),
        "math": sum(capture.label == "math" for capture in captures),
        "math_plain": sum(capture.label == "math_plain" for capture in captures),
        "other": sum(capture.label == "other" for capture in captures),
        "near_duplicates": sum(capture.duplicate_of is not None for capture in captures),
        "url_duplicates": sum(capture.url_duplicate_of is not None for capture in captures),
        "contaminated": sum(capture.contaminated_by is not None for capture in captures),
        "math_characters": sum(capture.document.characters for capture in mathematical),
    }


def make_captures(config: GeneratedCrawl, train: list[Problem], test: list[Problem], seed: int) -> list[Capture]:
    """All captures, in the order of the crawl."""
    base = _originals(config, len(test))
    rng = random.Random(f"mini-web/{seed}")
    sites = make_sites(config.domains, rng)
    book = ExerciseBook(train, HeldOut(test), rng)
    math_pages = round(base * config.math_share)
    planted: list[Problem | None] = [*rng.sample(test, config.contaminated), *[None] * (math_pages - config.contaminated)]
    rng.shuffle(planted)

    captures: list[Capture] = []
    math_sites, other_sites = _math_places(sites), _other_places(sites)
    for number in range(base):
        if number < math_pages:
            captures.append(_math_capture(_draw(math_sites, rng), book, number + 1, planted[number]))
        else:
            captures.append(_other_capture(_draw(other_sites, rng), rng, number + 1))
    copied = rng.sample([c for c in captures if c.contaminated_by is None], config.near_duplicates + config.url_duplicates)
    for number, original in enumerate(copied[: config.near_duplicates], base + 1):
        captures.append(_edited_copy(original, sites, number, rng))
    spellings = cycle(range(_SPELLINGS))
    for original in copied[config.near_duplicates :]:
        captures.append(replace(original, url=respell(original.url, next(spellings)), url_duplicate_of=original.url))
    rng.shuffle(captures)
    return captures


def _originals(config: GeneratedCrawl, held_out: int) -> int:
    """Number of pages that are not copies. Each original is copied at most once, and pages that quote held-out problems never."""
    base = config.pages - config.near_duplicates - config.url_duplicates
    room = base - config.near_duplicates - config.url_duplicates - config.contaminated
    if room < 0:
        raise MathQuarryError(
            f"crawl.source: {config.near_duplicates} near_duplicates, {config.url_duplicates} url_duplicates and {config.contaminated} "
            f"contaminated pages do not fit in {config.pages} pages; ask for fewer, or raise `pages` by at least {-room}."
        )
    most = min(round(base * config.math_share), held_out)
    if config.contaminated > most:
        raise MathQuarryError(
            f"crawl.source.contaminated is {config.contaminated}; with {round(base * config.math_share)} original mathematical pages "
            f"and {held_out} held-out problems it can be at most {most}."
        )
    return base


Places = list[tuple[float, Iterator[Site]]]


def _math_places(sites: list[Site]) -> Places:
    return [
        (1 - _MATH_ON_MIXED, cycle([site for site in sites if site.kind == "math"])),
        (_MATH_ON_MIXED, cycle([site for site in sites if site.kind == "mixed"])),
    ]


def _other_places(sites: list[Site]) -> Places:
    shares = {"math": _OTHER_ON_MATH, "mixed": _OTHER_ON_MIXED, "other": 1 - _OTHER_ON_MATH - _OTHER_ON_MIXED}
    return [(share, cycle([site for site in sites if site.kind == kind])) for kind, share in shares.items()]


def _draw(places: Places, rng: random.Random) -> Site:
    """Draw a kind of host by its share, and take its hosts in turn."""
    (chosen,) = rng.choices([turn for _, turn in places], [share for share, _ in places])
    return next(chosen)


def _math_capture(site: Site, book: ExerciseBook, number: int, planted: Problem | None) -> Capture:
    plain = book.rng.random() < _PLAIN_SHARE
    document = math_document(book, book.rng.choice(PLAIN_VOICES) if plain else site.voice, number, planted)
    label: Label = "math_plain" if plain else "math"
    url = site.math_url(document.title, number)
    return Capture(url, site, label, document, site.encoding, contaminated_by=planted.id if planted else None)


def _other_capture(site: Site, rng: random.Random, number: int) -> Capture:
    topic, path = site.other_place(number, rng)
    document = topic_document(topic, rng)
    return Capture(site.url(path, document.title, number), site, "other", document, site.encoding)


def _edited_copy(original: Capture, sites: list[Site], number: int, rng: random.Random) -> Capture:
    """The page on another host, with a few words inserted and that host's frame."""
    if original.label == "other":
        site = rng.choice([site for site in sites if site.kind != "math" and site is not original.site])
        url = site.url(site.other_place(number, rng)[1], original.document.title, number)
    else:
        site = rng.choice([site for site in sites if site.math_path and site is not original.site])
        url = site.math_url(original.document.title, number)
    encoding = site.encoding
    if _has_display(original.document) and INLINE_ONLY & {encoding, original.encoding}:
        encoding = original.encoding  # otherwise the copy's formulas would be written differently
    return Capture(url, site, original.label, edit(original.document, rng), encoding, duplicate_of=original.url)


def _has_display(document: Document) -> bool:
    paragraphs = (block for block in document.blocks if isinstance(block, Paragraph))
    return any(isinstance(part, Tex) and part.display for block in paragraphs for line in block.lines for part in line)


def edit(document: Document, rng: random.Random) -> Document:
    """Insert a word or two in a few sentences."""
    parts = {
        (number, row, column): part
        for number, block in enumerate(document.blocks)
        if isinstance(block, Paragraph)
        for row, line in enumerate(block.lines)
        for column, part in enumerate(line)
        if isinstance(part, str)
    }
    words = sum(len(part.split()) for part in parts.values())
    long_parts = [place for place, part in parts.items() if len(part.split()) >= 6]
    places = rng.sample(long_parts, min(len(long_parts), _MOST_EDITS, max(1, words // _WORDS_AN_EDIT)))
    changed = {}
    for place in places:
        pieces = parts[place].split(" ")
        pieces.insert(rng.randrange(2, len(pieces) - 1), rng.choice(_FILLERS))
        changed[place] = " ".join(pieces)
    return map_words(document, changed)


_SPELLINGS = 6


def respell(url: str, way: int) -> str:
    """Another spelling of the same address; `way` is 0 to 5."""
    parts = urlsplit(url)
    return (
        parts._replace(scheme="http").geturl(),
        parts._replace(path=parts.path.removesuffix("/") if parts.path.endswith("/") else parts.path + "/").geturl(),
        parts._replace(query="utm_source=newsletter&utm_medium=email").geturl(),
        parts._replace(fragment="comments").geturl(),
        parts._replace(netloc=parts.netloc.upper()).geturl(),
        parts._replace(netloc=f"{parts.netloc}:443").geturl(),
    )[way]


def _write_warcs(captures: list[Capture], files: int, workspace: Workspace) -> list[Path]:
    """Spread the captures over `files` WARC files in their order; each file also holds a robots.txt, which is not a page."""
    paths = []
    with workspace.progress.track("write mini-web", len(captures), "page") as bar:
        for number in range(files):
            first, last = (len(captures) * end // files for end in (number, number + 1))
            path = workspace.out / "warc" / f"miniweb-{number:05d}.warc.gz"
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                writer = WarcWriter(file, path.name, FIRST_DATE + first * _INTERVAL)
                for position in range(first, last):
                    capture = captures[position]
                    html = render(capture.document, capture.site.frame, capture.encoding)
                    writer.response(capture.url, html.encode(), FIRST_DATE + position * _INTERVAL)
                    bar.advance()
                if first < last:
                    robots = f"https://{captures[first].site.host}/robots.txt"
                    writer.response(robots, b"User-agent: *\nDisallow:\n", FIRST_DATE + last * _INTERVAL, content_type="text/plain")
            paths.append(path)
    return paths
