"""The domain table: of each host, how much was collected, and which paths hold the mathematics (paper section 2.1).

A domain is the pages with one base URL, the host (mathoverflow.net in the paper). It is mathematical when more than
10 % of its pages were collected. Inside such domains paths are accepted, by a person (`annotations.py`) or unattended
by `path_share`; the uncollected pages under accepted paths join the seed of the next round.

Ours: the Wilson interval, the least number of pages a verdict needs, and path prefixes of at most two segments.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.config import MineConfig
from data.mine.shards import Pages

Mask = NDArray[np.bool_]

_DEPTH = 2
_TITLES = 5
_PREFIXES = 20


@dataclass(frozen=True)
class PathPrefix:
    """Pages of a host below a path; `prefix` begins and ends with a slash ("/" is the whole host)."""

    prefix: str
    pages: int
    collected: int

    @property
    def share(self) -> float:
        """Share of its pages that were collected."""
        return self.collected / self.pages


@dataclass(frozen=True)
class Domain:
    """One row of the domain table."""

    host: str
    registered: str
    pages: int
    collected: int
    mathematical: bool
    prefixes: list[PathPrefix] = field(default_factory=list)
    """Judged prefixes (enough pages) of a mathematical domain, most pages first; others have none."""
    titles: list[str] = field(default_factory=list)
    """Titles of a few collected pages."""

    @property
    def share(self) -> float:
        """Share of its pages that were collected."""
        return self.collected / self.pages


def wilson_interval(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson score interval of a share (95 % by default): what 3 of 4 pages say about a host, against 300 of 400."""
    share = successes / trials
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    centre = share + z * z / (2 * trials)
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def path_prefixes(path: str) -> list[str]:
    """The folders a path lies in, "/" first, at most two deep: "/a/b/c.html" -> ["/", "/a/", "/a/b/"]."""
    folders = path.split("/")[1:-1]
    return ["/" + "".join(f"{folder}/" for folder in folders[:depth]) for depth in range(min(_DEPTH, len(folders)) + 1)]


def domain_table(pages: Pages, pool: Mask, collected: Mask, config: MineConfig) -> list[Domain]:
    """Judge every host with pages in `pool`; most collected pages first, then by name."""
    by_host: dict[str, list[int]] = defaultdict(list)
    for page in np.flatnonzero(pool).tolist():
        by_host[pages.host[page]].append(page)
    table = []
    for host, members in by_host.items():
        taken = [page for page in members if collected[page]]
        mathematical = len(members) >= config.domain_min_pages and len(taken) / len(members) > config.domain_share
        table.append(
            Domain(
                host,
                pages.domain[members[0]],
                len(members),
                len(taken),
                mathematical,
                _prefixes([pages.path[page] for page in members], collected[members], config.domain_min_pages) if mathematical else [],
                list(dict.fromkeys(pages.title[page] for page in taken if pages.title[page]))[:_TITLES],
            )
        )
    return sorted(table, key=lambda domain: (-domain.collected, domain.host))


def _prefixes(paths: list[str], collected: Mask, least: int) -> list[PathPrefix]:
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for path, taken in zip(paths, collected.tolist(), strict=True):
        for prefix in path_prefixes(path):
            counts[prefix][0] += 1
            counts[prefix][1] += taken
    judged = [PathPrefix(prefix, total, taken) for prefix, (total, taken) in counts.items() if total >= least]
    return sorted(judged, key=lambda prefix: (-prefix.pages, prefix.prefix))


def accept_unattended(domain: Domain, path_share: float) -> list[str]:
    """The prefixes of a mathematical domain that a share of collected pages accepts, none inside another.

    A prefix is accepted when its share reaches `path_share` and so does that of every judged folder inside it;
    otherwise its folders are judged one by one. So a host of good /questions/ and poor /jobs/ gives /questions/
    alone, and a host of flat addresses is accepted whole.
    """
    judged = {prefix.prefix: prefix for prefix in domain.prefixes}

    def inside(parent: str) -> list[str]:
        depth = parent.count("/") + 1
        return sorted(name for name in judged if name.startswith(parent) and name.count("/") == depth)

    def sound(name: str) -> bool:
        return judged[name].share >= path_share and all(sound(child) for child in inside(name))

    def accepted(name: str) -> list[str]:
        return [name] if sound(name) else [found for child in inside(name) for found in accepted(child)]

    return accepted("/") if "/" in judged else []


def to_arrow(table: Iterable[Domain], accepted: dict[str, list[str]]) -> pa.Table:
    """The domain table as Arrow, a row a host; prefixes are listed up to 20 a host, the largest first, with whether they were accepted."""
    rows = []
    for domain in table:
        low, high = wilson_interval(domain.collected, domain.pages)
        names = accepted.get(domain.host, [])
        rows.append(
            {
                "host": domain.host,
                "domain": domain.registered,
                "pages": domain.pages,
                "collected": domain.collected,
                "share": domain.share,
                "share_low": low,
                "share_high": high,
                "mathematical": domain.mathematical,
                "accepted": names,
                "prefixes": [
                    {"prefix": p.prefix, "pages": p.pages, "collected": p.collected, "share": p.share} for p in domain.prefixes[:_PREFIXES]
                ],
                "titles": domain.titles,
            }
        )
    prefix = pa.struct([("prefix", pa.string()), ("pages", pa.int64()), ("collected", pa.int64()), ("share", pa.float64())])
    schema = pa.schema(
        [
            ("host", pa.string()),
            ("domain", pa.string()),
            ("pages", pa.int64()),
            ("collected", pa.int64()),
            ("share", pa.float64()),
            ("share_low", pa.float64()),
            ("share_high", pa.float64()),
            ("mathematical", pa.bool_()),
            ("accepted", pa.list_(pa.string())),
            ("prefixes", pa.list_(prefix)),
            ("titles", pa.list_(pa.string())),
        ]
    )
    return pa.Table.from_pylist(rows, schema=schema)
