"""Explains why a page is in a corpus or not: `mathquarry why URL`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from mathquarry.data.crawl.urls import Address, parse_address, url_key
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import read_json


@dataclass(frozen=True)
class Verdict:
    """The outcome of one capture of a page."""

    url: str
    kept: bool
    reason: str
    """`collected`, or the reason for dropping it."""
    detail: str
    history: list[str] = field(default_factory=list)
    """A line per round that scored the page, then lines about its quotations and its host."""


def why(artifact: Path, url: str) -> list[Verdict]:
    """Every capture of `url`, in any spelling of the address, that the `mine` artifact in `artifact` kept or dropped.

    Raises `MathQuarryError` when `url` is not an http(s) address, or when the crawl had no such page.
    """
    address = parse_address(url)
    if address is None:
        raise MathQuarryError(f"{url} is not an http(s) address with a host.")
    corpus, dropped = artifact / "corpus" / "*.parquet", artifact / "dropped.parquet"
    with duckdb.connect() as connection:
        kept = connection.execute(
            "select url, round, score, tokens, formulas, language from read_parquet(?) where host = ?", [str(corpus), address.host]
        ).fetchall()
        left = connection.execute(
            "select url, reason, detail from read_parquet(?) where contains(lower(url), ?)", [str(dropped), address.host]
        )
        verdicts = [
            Verdict(
                found,
                True,
                "collected",
                f"first in round {number}, score {score:.6f}, about {tokens} tokens, {formulas} formulas, language {language}",
            )
            for found, number, score, tokens, formulas, language in kept
        ]
        verdicts += [Verdict(found, False, reason, detail) for found, reason, detail in left.fetchall()]
        same = [verdict for verdict in verdicts if (there := parse_address(verdict.url)) and there.canonical == address.canonical]
        if not same:
            raise MathQuarryError(f"the crawl of {artifact} has no page {url} (searched for as {address.canonical}).")
        host = _host(connection, artifact, address)
        return [
            Verdict(
                verdict.url,
                verdict.kept,
                verdict.reason,
                verdict.detail,
                [*_rounds(connection, artifact, address, verdict), *_quotations(connection, artifact, verdict.url), *host],
            )
            for verdict in same
        ]


def _rounds(connection: duckdb.DuckDBPyConnection, artifact: Path, address: Address, verdict: Verdict) -> list[str]:
    """One line for each round that scored the capture. Duplicates and pages without text were never scored."""
    if not (verdict.kept or verdict.reason == "low-score"):
        return []
    path = str(artifact / "scores.parquet")
    found = connection.execute("select * from read_parquet(?) where key = ?", [path, url_key(address.canonical)])
    names = [column[0] for column in found.description or []]
    lines = []
    for row in found.fetchall():
        values = dict(zip(names, row, strict=True))
        for record in read_json(artifact / "rounds.json")["rounds"]:
            lines += _round(record, values[f"score_{record['round']}"], values["joined_seed"])
    return lines


def _round(record: dict[str, Any], score: float | None, joined: int) -> list[str]:
    number, threshold = record["round"], record["threshold"]
    if score is None:
        return [f"round {number}: not extracted yet, its first-pass score was too low"]
    taken = "collected" if score >= threshold else "not collected"
    lines = [f"round {number}: score {score:.6f}, {taken} (from {threshold:.6f})"]
    if joined == number:
        lines[0] += "; joined the seed because its path was accepted"
    return lines


def _quotations(connection: duckdb.DuckDBPyConnection, artifact: Path, url: str) -> list[str]:
    found = connection.execute(
        "select removed, benchmark, problem, part, n, segments, quote from read_parquet(?) where url = ?",
        [str(artifact / "contamination.parquet"), url],
    ).fetchall()
    return [
        f"quotes {benchmark} {problem} {part}, {n}-gram, in {segments} segment{'s' * (segments > 1)} "
        f"({'the whole page was dropped' if removed == 'page' else 'removed from the text'}): {quote}"
        for removed, benchmark, problem, part, n, segments, quote in found
    ]


def _host(connection: duckdb.DuckDBPyConnection, artifact: Path, address: Address) -> list[str]:
    found = connection.execute(
        "select pages, collected, mathematical, accepted from read_parquet(?) where host = ?",
        [str(artifact / "domains.parquet"), address.host],
    ).fetchall()
    if not found:
        return [f"host {address.host}: none of its pages were collected"]
    pages, collected, mathematical, accepted = found[0]
    kind = "a mathematical domain" if mathematical else "not a mathematical domain"
    paths = f", accepted paths {' '.join(accepted)}" if accepted else ", no accepted paths"
    return [f"host {address.host}: {kind}, {collected:,} of {pages:,} pages collected{paths}"]
