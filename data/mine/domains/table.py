"""The domain table: how much of each host was collected, and which paths contain the mathematics (paper section 2.1).

A domain is all pages with one base URL, the host (mathoverflow.net in the paper). It is mathematical when more than 10 %
of its pages were collected. Inside such domains, paths are accepted by a person (`annotations.py`) or automatically by
`path_share`. The uncollected pages under accepted paths join the seed of the next round.

Our additions: the Wilson interval (with `domain_rule = "wilson"` its lower end must exceed the share, so that 3 of 4 pages
prove little), the minimum number of pages for a verdict, path prefixes of at most two folders, and the expected gain: the
uncollected pages of each folder times the folder's collected share, summed. The table is ordered by it, since it shows
where a person's review gains the most.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from mathquarry.data.mine.config import MineConfig

_DEPTH = 2
_SAMPLES = 10
_PREFIXES = 20
SCORE_BINS = 10
"""Bins of equal width in a host's histogram of scores."""


@dataclass(frozen=True)
class PageSample:
    """A page drawn at random."""

    title: str
    path: str
    collected: bool


@dataclass(frozen=True)
class PathPrefix:
    """Pages of a host below a path; `prefix` starts and ends with a slash ("/" is the whole host)."""

    prefix: str
    pages: int
    collected: int
    gain: float = 0.0
    """Mathematical pages to expect among those not collected."""
    samples: list[PageSample] = field(default_factory=list)

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
    gain: float = 0.0
    """Mathematical pages to expect among those not collected."""
    scores: list[int] = field(default_factory=list)
    """Pages by score, in `SCORE_BINS` bins from 0 to 1; pages that did not pass the first classifier have none."""
    prefixes: list[PathPrefix] = field(default_factory=list)
    """Prefixes with enough pages, if the domain is mathematical; most pages first."""
    samples: list[PageSample] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Share of its pages that were collected."""
        return self.collected / self.pages


def wilson_interval(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson score interval of a share (95 % by default): wide for 3 of 4 pages, narrow for 300 of 400."""
    share = successes / trials
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    centre = share + z * z / (2 * trials)
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def is_mathematical(pages: int, collected: int, config: MineConfig) -> bool:
    """The paper's rule: more than 10 % of the pages were collected. With `domain_rule = "wilson"`, this tests the interval's lower end."""
    share = collected / pages if config.domain_rule == "share" else wilson_interval(collected, pages)[0]
    return pages >= config.domain_min_pages and share > config.domain_share


def domain_table(captures: duckdb.DuckDBPyConnection, config: MineConfig) -> list[Domain]:
    """Classify every host with collected pages. Ordered by expected gain, then collected pages (both descending), then name.

    `captures` has the view `captures` described in `census.py`.
    """
    bins = ", ".join(
        f"count_if(score is not null and least(floor(score * {SCORE_BINS}), {SCORE_BINS - 1}) = {number})" for number in range(SCORE_BINS)
    )
    captures.execute(
        f"""
        create or replace temp table hosts as
        select host, min(domain) as domain, count(*) as pages, count_if(collected) as taken, [{bins}] as scores from captures
        group by host having taken > 0;
        create or replace temp table leaves as
        select host, list_slice(string_split(path, '/'), 2, -2)[1:{_DEPTH}] as folders, count(*) as pages, count_if(collected) as taken
        from captures semi join hosts using (host) group by all
        """
    )
    hosts = captures.execute(
        """
        select host, domain, pages, taken, gain, scores from hosts
        join (select host, sum((pages - taken) * taken / pages) as gain from leaves group by host) using (host)
        order by gain desc, taken desc, host
        """
    ).fetchall()
    mathematical = [host for host, _, pages, taken, _, _ in hosts if is_mathematical(pages, taken, config)]
    captures.register("mathematical", pa.table({"host": pa.array(sorted(mathematical), pa.string())}))
    prefixes = _prefixes(captures, config)
    samples = _samples(captures, "select host, '' as prefix, * exclude host from captures semi join hosts using (host)", config.seed)
    return [
        Domain(host, domain, pages, taken, host in prefixes, gain, scores, prefixes.get(host, []), samples.get((host, ""), []))
        for host, domain, pages, taken, gain, scores in hosts
    ]


def _prefixes(captures: duckdb.DuckDBPyConnection, config: MineConfig) -> dict[str, list[PathPrefix]]:
    """The prefixes with enough pages, by host of `mathematical`: "/" and the first folders of each path."""
    below = """
        select {columns}, '/' || array_to_string(list_transform(folders[1:depth], lambda name: name || '/'), '') as prefix
        from ({rows}), unnest(range(0, len(folders) + 1)) as depths(depth)
    """
    found = captures.execute(
        f"""
        select host, prefix, sum(pages)::bigint as pages, sum(taken)::bigint, sum((pages - taken) * taken / pages)
        from ({below.format(columns="host, pages, taken", rows="from leaves semi join mathematical using (host)")})
        group by host, prefix having sum(pages) >= {config.domain_min_pages} order by host, pages desc, prefix
        """
    ).fetchall()
    folders = (
        f"select *, list_slice(string_split(path, '/'), 2, -2)[1:{_DEPTH}] as folders from captures semi join mathematical using (host)"
    )
    samples = _samples(captures, below.format(columns="host, title, path, key, collected", rows=folders), config.seed)
    by_host: dict[str, list[PathPrefix]] = {}
    for host, prefix, pages, taken, gain in found:
        by_host.setdefault(host, []).append(PathPrefix(prefix, pages, taken, gain, samples.get((host, prefix), [])))
    return by_host


def _samples(captures: duckdb.DuckDBPyConnection, pages: str, seed: int) -> dict[tuple[str, str], list[PageSample]]:
    """Random pages by host and prefix. The seed decides which keys (hashes of URLs) come first, so the crawl's order does not matter."""
    page, order = "struct_pack(title := title, path := path, collected := collected)", f"xor(key, {_mask(seed)}::ubigint)"
    found = captures.execute(f"select host, prefix, arg_min({page}, {order}, {_SAMPLES}) from ({pages}) group by host, prefix").fetchall()
    return {(host, prefix): [PageSample(**sample) for sample in samples] for host, prefix, samples in found}


def _mask(seed: int) -> int:
    return random.Random(seed).getrandbits(64)


def accept_unattended(domain: Domain, path_share: float) -> list[str]:
    """The prefixes of a mathematical domain that `path_share` accepts, none inside another.

    A prefix is accepted if its collected share, and that of every prefix inside it, reaches `path_share`;
    otherwise each of its folders is checked separately. So a host with good /questions/ and poor /jobs/ yields only /questions/,
    and a host with flat addresses is accepted whole.
    """
    prefixes = {prefix.prefix: prefix for prefix in domain.prefixes}

    def inside(parent: str) -> list[str]:
        depth = parent.count("/") + 1
        return sorted(name for name in prefixes if name.startswith(parent) and name.count("/") == depth)

    def sound(name: str) -> bool:
        return prefixes[name].share >= path_share and all(sound(child) for child in inside(name))

    def accepted(name: str) -> list[str]:
        return [name] if sound(name) else [found for child in inside(name) for found in accepted(child)]

    return accepted("/") if "/" in prefixes else []


def to_arrow(table: Iterable[Domain], accepted: dict[str, list[str]]) -> pa.Table:
    """The domain table as Arrow, one row per host, with its 20 largest prefixes and whether they were accepted."""
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
                "gain": domain.gain,
                "scores": domain.scores,
                "accepted": names,
                "prefixes": [_prefix_row(prefix) for prefix in domain.prefixes[:_PREFIXES]],
                "samples": [asdict(sample) for sample in domain.samples],
            }
        )
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


def _prefix_row(prefix: PathPrefix) -> dict[str, Any]:
    low, high = wilson_interval(prefix.collected, prefix.pages)
    return asdict(prefix) | {"share": prefix.share, "share_low": low, "share_high": high}


_COUNTS = [
    ("pages", pa.int64()),
    ("collected", pa.int64()),
    ("share", pa.float64()),
    ("share_low", pa.float64()),
    ("share_high", pa.float64()),
    ("gain", pa.float64()),
]
_SAMPLE = pa.list_(pa.struct([("title", pa.string()), ("path", pa.string()), ("collected", pa.bool_())]))
_SCHEMA = pa.schema(
    [
        ("host", pa.string()),
        ("domain", pa.string()),
        *_COUNTS,
        ("mathematical", pa.bool_()),
        ("scores", pa.list_(pa.int64())),
        ("accepted", pa.list_(pa.string())),
        ("prefixes", pa.list_(pa.struct([("prefix", pa.string()), *_COUNTS, ("samples", _SAMPLE)]))),
        ("samples", _SAMPLE),
    ]
)
