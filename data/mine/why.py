"""Why a page is in a corpus or not: `mathquarry why URL`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb

from data.errors import MathQuarryError
from data.mine.urls import parse_address


@dataclass(frozen=True)
class Verdict:
    """What happened to one capture of a page."""

    url: str
    kept: bool
    reason: str
    """`collected`, or the reason it was dropped for."""
    detail: str


def why(artifact: Path, url: str) -> list[Verdict]:
    """Every capture of `url`, in any spelling of the address, that the `mine` artifact in `artifact` kept or dropped.

    Raises `MathQuarryError` when `url` is no http(s) address, or when the crawl had no such page.
    """
    address = parse_address(url)
    if address is None:
        raise MathQuarryError(f"{url} is no http(s) address with a host.")
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
        raise MathQuarryError(f"the crawl of {artifact} has no page {url} (looked for as {address.canonical}).")
    return same
