"""Writes sample pages for the report, and every page's scores for `mathquarry why`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mathquarry.data.files import atomic_path
from mathquarry.data.mine.library.library import Library, draws
from mathquarry.data.mine.pages.shards import iter_kept
from mathquarry.data.mine.record.round import Round

SAMPLES = 8
"""Pages per kind."""
CHARACTERS = 2000
"""Characters kept of a page's text."""

_COLUMNS = ["url", "title", "text", "formulas", "tokens"]


def write_samples(library: Library, last: Round, path: Path) -> None:
    """Write `samples.parquet`: kind, score and the beginning of a few pages, by kind and descending score.

    Kinds: `just-above` and `just-below` the last round's threshold; `collected` and `rejected`, drawn at random.
    """
    pages, scores = library.pages, last.scores
    collected = pages.among(last.collected)
    rejected = library.pool & ~collected
    order = draws(pages.key, library.config.seed)
    kinds = {
        "collected": _first(collected, order),
        "just-above": _first(collected, scores),
        "just-below": _first(rejected, -scores),
        "rejected": _first(rejected, order),
    }
    found = _read(library, np.unique(np.concatenate(list(kinds.values()))))
    rows = [
        {"kind": kind, "score": float(scores[page]), **found[page]}
        for kind, chosen in kinds.items()
        for page in sorted(chosen.tolist(), key=lambda page: (-scores[page], page))
    ]
    fields = [(name, pa.string()) for name in ("kind", "url", "title", "text")]
    schema = pa.schema([*fields, ("score", pa.float64()), ("formulas", pa.int32()), ("tokens", pa.int32())])
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary, compression="zstd")


def _first(mask: NDArray[np.bool_], order: NDArray) -> NDArray[np.int64]:
    candidates = np.flatnonzero(mask)
    return candidates[np.argsort(order[candidates], kind="stable")[:SAMPLES]]


def _read(library: Library, chosen: NDArray[np.int64]) -> dict[int, dict]:
    pages = library.pages
    mask = np.zeros(len(pages), dtype=bool)
    mask[chosen] = True
    positions = iter(chosen.tolist())
    found = {}
    for number, shard in enumerate(pages.shards):
        rows = pages.rows_of(number, mask)
        if not rows.any():
            continue
        for batch in iter_kept(shard, rows, _COLUMNS):
            for row in batch.to_pylist():
                text = row["text"]
                row["text"] = text if len(text) <= CHARACTERS else text[:CHARACTERS] + " […]"
                found[next(positions)] = row
    return found


def write_scores(library: Library, rounds: Sequence[Round], path: Path) -> None:
    """Write `scores.parquet`, one row per page: key (hash of the canonical URL), score_1, score_2, .. (null before the page was
    extracted), joined_seed (the round after which it joined the seed under an accepted path, 0 if it never did).
    """
    pages = library.pages
    joined = np.zeros(len(pages), dtype=np.int8)
    for done in rounds:
        joined[pages.among(done.added) & (joined == 0)] = done.record.round
    columns: dict[str, pa.Array] = {"key": pa.array(pages.key)}
    for done in rounds:
        scores = np.full(len(pages), np.nan, dtype=np.float32)
        scores[: len(done.scores)] = done.scores
        unscored = np.isnan(scores) | ~library.pool
        columns[f"score_{done.record.round}"] = pa.array(scores, mask=unscored)
    columns["joined_seed"] = pa.array(joined)
    with atomic_path(path) as temporary:
        pq.write_table(pa.table(columns), temporary, compression="zstd")
