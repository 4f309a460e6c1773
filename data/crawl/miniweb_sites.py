"""The hosts of the mini-web: their topics, paths and page layouts."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, product
from typing import Literal, get_args

from mathquarry.data.crawl.miniweb_html import ENCODERS, LAYOUTS, Frame
from mathquarry.data.crawl.miniweb_math import FORMULA_VOICES
from mathquarry.data.crawl.miniweb_topics import TOPICS
from mathquarry.data.errors import MathQuarryError

SiteKind = Literal["math", "mixed", "other"]

_MATH_HOSTS = 0.25
_MIXED_HOSTS = 0.17
LEAST_HOSTS = 3
"""One of each kind."""

_NAMES: dict[str, tuple[str, str]] = {
    "math": ("number sum plus count math digit", "corner forum school notes garden club"),
    "mixed": ("family teacher village sunny pocket rainy", "pages magazine diary almanac"),
    "cooking": ("spoon pantry oven pepper", "kitchen table stories recipes"),
    "sport": ("goal match league stadium", "report daily times watch"),
    "travel": ("harbour compass suitcase window", "trips routes letters guide"),
    "news": ("city river morning county", "herald post gazette observer"),
    "shopping": ("bright oak simple corner", "shop goods store outlet"),
}
# Kinds of mathematical sites: the folder of the mathematical pages, and the pattern of their addresses.
_FLAVOURS: tuple[tuple[str, str], ...] = (
    ("/questions/", "/questions/{id}/{slug}"),
    ("/lessons/", "/lessons/{slug}-{id}.html"),
    ("/wiki/", "/wiki/{Slug}_{id}"),
    ("/blog/", "/blog/{slug}-{id}/"),
)
_MIXED_PATHS = ("/math/", "/recipes/", "/about/")
_SITE_PATHS = ("/about/", "/news/", "/contact/")


@dataclass(frozen=True)
class Site:
    """A host; `math_path` is empty if it has no mathematics."""

    host: str
    kind: SiteKind
    topic: str
    math_path: str
    address: str
    voice: str
    encoding: str
    frame: Frame

    def math_url(self, title: str, number: int) -> str:
        """Address of a mathematical page."""
        return self._address(self.address, title, number)

    def other_place(self, number: int, rng: random.Random) -> tuple[str, str]:
        """Topic and folder of a page without mathematics."""
        if self.kind == "math":
            return "site", rng.choice(_SITE_PATHS)
        if self.kind == "mixed":
            return rng.choice((("site", "/about/"), (self.topic, "/recipes/"), (self.topic, "/recipes/")))
        return self.topic, f"/{self.topic}/" if number % 4 else "/archive/"

    def url(self, folder: str, title: str, number: int) -> str:
        """Address of a page in a folder."""
        return self._address(folder + "{slug}-{id}", title, number)

    def _address(self, pattern: str, title: str, number: int) -> str:
        words = re.findall(r"[a-z0-9]+", title.lower())[:6]
        path = pattern.format(id=number, slug="-".join(words), Slug="_".join(words).capitalize())
        return f"https://{self.host}{path}"


def make_sites(hosts: int, rng: random.Random) -> list[Site]:
    """`hosts` sites of all three kinds. Raises `MathQuarryError` for fewer than three."""
    if hosts < LEAST_HOSTS:
        raise MathQuarryError(
            f"crawl.source.domains is {hosts}; the mini-web needs at least {LEAST_HOSTS}: one with mathematics, one mixed, one without."
        )
    math = max(1, round(_MATH_HOSTS * hosts))
    mixed = max(1, min(round(_MIXED_HOSTS * hosts), hosts - math - 1))
    kinds: list[SiteKind] = []
    for kind, number in zip(get_args(SiteKind), (math, mixed, hosts - math - mixed), strict=True):
        kinds += [kind] * number
    names = {key: _host_names(*parts, rng) for key, parts in _NAMES.items()}
    sites = []
    for number, kind in enumerate(kinds):
        topic = "cooking" if kind == "mixed" else TOPICS[number % len(TOPICS)]
        host = next(names[topic if kind == "other" else kind])
        flavour = number % len(_FLAVOURS)
        math_path, address = _FLAVOURS[flavour] if kind == "math" else ("/math/", "/math/{slug}-{id}") if kind == "mixed" else ("", "")
        paths = [math_path, *_SITE_PATHS] if kind == "math" else list(_MIXED_PATHS) if kind == "mixed" else [f"/{topic}/", "/archive/"]
        name = host.split(".")[-2].title()
        menu = (("Home", "/"), *((path.strip("/").title(), path) for path in paths), ("Search", "/search"))
        sites.append(
            Site(
                host,
                kind,
                topic,
                math_path,
                address,
                voice=FORMULA_VOICES[number % len(FORMULA_VOICES)],
                encoding=tuple(ENCODERS)[number % len(ENCODERS)],
                frame=Frame(name, menu, rng.randrange(LAYOUTS)),
            )
        )
    return sites


def _host_names(first: str, second: str, rng: random.Random) -> Iterator[str]:
    names = ["".join(pair) for pair in product(first.split(), second.split())]
    rng.shuffle(names)
    for turn in count():
        for name in names:
            yield f"{rng.choice(('', 'www.'))}{name}{turn or ''}.example"
