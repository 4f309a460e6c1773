"""The domain table in section "corpus". It can be searched and sorted, and opens to show a host's paths and titles."""

from __future__ import annotations

from typing import Any

import pyarrow.parquet as pq

from mathquarry.data.report.page.artifact import ReportArtifact
from mathquarry.data.report.page.blocks import Block, Cell, Interval, Table, Unfold, count, percent
from mathquarry.data.report.page.source import Source, literal

DOMAINS = 300
"""Maximum number of hosts shown. The artifact has all."""
PREFIXES = 8
BARS = "▁▂▃▄▅▆▇█"


def domain_blocks(mine: ReportArtifact) -> list[Block]:
    """Return the table of the last round's domains, in the artifact's order (largest expected gain first)."""
    path = mine.path / "domains.parquet"
    if not path.exists():
        return []
    table = pq.read_table(path)
    shown = table.slice(0, DOMAINS)
    rows = [_row(row) for row in shown.to_pylist()]
    headers = ["Domain", "Pages", "Collected", "Share", "95 % interval", "Expected gain", "Mathematical", "Accepted paths"]
    few = (
        f"the first {count(shown.num_rows)} of {count(table.num_rows)}"
        if shown.num_rows < table.num_rows
        else f"all {count(table.num_rows)}"
    )
    note = (
        "Expected gain: the sum over folders of uncollected pages times the folder's collected share. Open a domain to see its paths, "
        "random pages (● collected, ○ not), and the distribution of its scores from 0 to 1."
    )
    return [
        Table(
            headers,
            rows,
            frozenset({1, 2, 3, 5}),
            f"Domains, {few}",
            mono=frozenset({0, 7}),
            note=note,
            search="Search domains and paths",
            source=Source.of([mine], f"select * from domains where artifact = {literal(mine.key)} limit {DOMAINS}"),
        )
    ]


def _row(row: dict[str, Any]) -> list[Cell]:
    return [
        Unfold(row["host"], _details(row)),
        count(row["pages"]),
        count(row["collected"]),
        percent(row["share"], 0),
        Interval(row["share_low"], row["share"], row["share_high"]),
        count(row.get("gain")),
        "yes" if row["mathematical"] else "no",
        _paths(row["accepted"]),
    ]


def _details(row: dict[str, Any]) -> list[tuple[str, str]]:
    lines = []
    for prefix in (row.get("prefixes") or [])[:PREFIXES]:
        share = f"{count(prefix['collected'])} of {count(prefix['pages'])}, {percent(prefix['share'], 0)}"
        lines.append((prefix["prefix"], f"{share}, expected gain {count(prefix.get('gain'))}"))
        lines += [("", _sample(page)) for page in (prefix.get("samples") or [])[:3]]
    if row.get("scores"):
        lines.append(("scores", sparkline(row["scores"])))
    if not row.get("prefixes"):
        lines += [("", _sample(page)) for page in row.get("samples") or []]
    return lines


def _sample(page: dict[str, Any]) -> str:
    return f"{'●' if page['collected'] else '○'} {page['title'] or page['path']}"


def sparkline(counts: list[int]) -> str:
    """Draw counts as characters of increasing height; a space for zero."""
    most = max(counts, default=0) or 1
    return "".join(BARS[min(len(BARS) - 1, value * len(BARS) // (most + 1))] if value else "\u2007" for value in counts)


def _paths(prefixes: list[str] | None) -> str:
    shown = (prefixes or [])[:4]
    more = len(prefixes or []) - len(shown)
    return " ".join(shown) + (f" and {more} more" if more > 0 else "")
