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

import duckdb
import pyarrow as pa

from data.config import MineConfig

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


def domain_table(captures: duckdb.DuckDBPyConnection, config: MineConfig) -> list[Domain]:
    """Judge every host of which something was collected; most collected pages first, then by name.

    `captures` has the view of that name that `census.py` describes.
    """
    hosts = captures.execute(
        """
        select host, min(domain), count(*) as pages, count_if(collected) as taken from captures
        group by host having taken > 0 order by taken desc, host
        """
    ).fetchall()
    judged = {host for host, _, pages, taken in hosts if pages >= config.domain_min_pages and taken / pages > config.domain_share}
    prefixes, titles = _prefixes(captures, judged, config.domain_min_pages), _titles(captures)
    return [
        Domain(host, domain, pages, taken, host in judged, prefixes.get(host, []), titles.get(host, []))
        for host, domain, pages, taken in hosts
    ]


def _prefixes(captures: duckdb.DuckDBPyConnection, hosts: set[str], least: int) -> dict[str, list[PathPrefix]]:
    """By host, the prefixes with at least `least` pages: "/" and the first folders of each path."""
    captures.register("judged", pa.table({"host": pa.array(sorted(hosts), pa.string())}))
    found = captures.execute(
        f"""
        with folders as (
            select host, collected, list_slice(string_split(path, '/'), 2, -2) as folder
            from captures semi join judged using (host)
        ),
        below as (
            select host, collected, unnest(list_transform(
                range(0, least(len(folder), {_DEPTH}) + 1),
                lambda depth: '/' || array_to_string(list_transform(folder[1:depth], lambda name: name || '/'), '')
            )) as prefix
            from folders
        )
        select host, prefix, count(*) as pages, count_if(collected) from below
        group by host, prefix having pages >= {least} order by host, pages desc, prefix
        """
    ).fetchall()
    by_host: dict[str, list[PathPrefix]] = defaultdict(list)
    for host, prefix, pages, taken in found:
        by_host[host].append(PathPrefix(prefix, pages, taken))
    return by_host


def _titles(captures: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    """By host, titles of a few collected pages: those with the least keys, which are hashes."""
    found = captures.execute(
        f"""
        with titled as (select host, title, min(key) as key from captures where collected and title <> '' group by host, title)
        select host, list(title order by key, title)[1:{_TITLES}] from titled group by host
        """
    ).fetchall()
    return dict(found)


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
