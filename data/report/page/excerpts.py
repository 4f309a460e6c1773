"""Shows pages on both sides of the last round's threshold, so that a person can check it."""

from __future__ import annotations

from typing import Any

import pyarrow.parquet as pq

from mathquarry.data.report.page.artifact import ReportArtifact
from mathquarry.data.report.page.blocks import Block, Excerpt, Excerpts, count
from mathquarry.data.report.page.formulas import pieces
from mathquarry.data.report.page.source import Source, literal

TITLES = {
    "collected": ("Collected pages", "Drawn at random from the corpus."),
    "just-above": ("Collected, just above the threshold", "The collected pages with the lowest scores."),
    "just-below": ("Rejected, just below the threshold", "The pages with the highest scores that were not collected."),
    "rejected": ("Rejected pages", "Drawn at random from the pages that were not collected."),
}


def excerpt_blocks(mine: ReportArtifact) -> list[Block]:
    """One block a kind of sample, from `samples.parquet`."""
    path = mine.path / "samples.parquet"
    if not path.exists():
        return []
    rows = pq.read_table(path).to_pylist()
    return [
        Excerpts(title, note, [_excerpt(row) for row in rows if row["kind"] == kind], source=_source(mine, kind))
        for kind, (title, note) in TITLES.items()
        if any(row["kind"] == kind for row in rows)
    ]


def _source(mine: ReportArtifact, kind: str) -> Source:
    where = f"where artifact = {literal(mine.key)} and kind = {literal(kind)}"
    return Source.of([mine], f"select url, title, score, formulas, tokens, text from samples\n{where} order by score desc")


def _excerpt(row: dict[str, Any]) -> Excerpt:
    facts = f"score {row['score']:.4f}, {count(row['formulas'])} formulas, about {count(row['tokens'])} tokens"
    return Excerpt(row["title"] or row["url"], row["url"], facts, list(pieces(row["text"])))
