"""What mining leaves behind: the corpus, the domain table, the list of dropped pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data.files import atomic_path
from data.mine.cleaning import Cleaning
from data.mine.rounds import Round
from data.mine.shards import Mask, Pages, dropped_records, iter_kept

CORPUS_SCHEMA = pa.schema(
    [
        ("url", pa.string()),
        ("host", pa.string()),
        ("text", pa.large_string()),
        ("score", pa.float32()),
        ("tokens", pa.int32()),
        ("formulas", pa.int32()),
        ("formula_kinds", pa.map_(pa.string(), pa.int32())),
        ("language", pa.string()),
        ("round", pa.int8()),
    ]
)
DROPPED_SCHEMA = pa.schema([("url", pa.string()), ("reason", pa.string()), ("detail", pa.string())])

_COLUMNS = ["url", "host", "text", "tokens", "formulas", "formula_kinds", "language"]
_PAGES_A_PART = 50_000
_ROWS_A_CHUNK = 10_000


def first_rounds(masks: list[Mask]) -> NDArray[np.int8]:
    """The round (from 1) in which each page was first collected; 0 for pages that never were."""
    first = np.zeros(len(masks[0]), dtype=np.int8)
    for number, mask in enumerate(masks, 1):
        first[mask & (first == 0)] = number
    return first


def write_corpus(pages: Pages, last: Round, first_round: NDArray[np.int8], folder: Path) -> int:
    """Write the last round's pages as `part-NNNN.parquet`, in the crawl's order, up to 50,000 a part. Returns the number of parts."""
    parts = 0
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in _corpus_batches(pages, last, first_round):
        waiting.append(batch)
        rows += batch.num_rows
        if rows >= _PAGES_A_PART:
            _write_part(folder, parts, waiting)
            parts, waiting, rows = parts + 1, [], 0
    if waiting:
        _write_part(folder, parts, waiting)
        parts += 1
    return parts


def _corpus_batches(pages: Pages, last: Round, first_round: NDArray[np.int8]) -> Iterator[pa.RecordBatch]:
    for number, shard in enumerate(pages.shards):
        chosen = pages.rows_of(number, last.collected)
        positions = np.flatnonzero(chosen) + pages.first[number]
        start = 0
        for batch in iter_kept(shard, chosen, _COLUMNS):
            here = positions[start : start + batch.num_rows]
            start += batch.num_rows
            columns = {name: batch[name] for name in _COLUMNS}
            columns |= {"score": pa.array(last.scores[here]), "round": pa.array(first_round[here])}
            yield pa.RecordBatch.from_pydict(columns, schema=CORPUS_SCHEMA)


def _write_part(folder: Path, number: int, batches: list[pa.RecordBatch]) -> None:
    with atomic_path(folder / f"part-{number:04d}.parquet") as temporary:
        pq.write_table(pa.Table.from_batches(batches, schema=CORPUS_SCHEMA), temporary, compression="zstd")


def write_dropped(pages: Pages, cleaning: Cleaning, pool: Mask, last: Round, path: Path) -> dict[str, int]:
    """Write every page that is not in the corpus with the reason, from extraction, from cleaning, or `low-score`.

    Returns counts by reason.
    """
    counts: Counter[str] = Counter()

    def add(writer: pq.ParquetWriter, table: pa.Table) -> None:
        counts.update(table["reason"].to_pylist())
        writer.write_table(table.cast(DROPPED_SCHEMA))

    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, DROPPED_SCHEMA, compression="zstd") as writer:
        add(writer, dropped_records(pages.shards))
        removed = cleaning.removed.select(["reason", "detail"])
        urls = [pages.url[page] for page in cleaning.removed["page"].to_pylist()]
        add(writer, removed.add_column(0, "url", pa.array(urls, pa.string())))
        left = np.flatnonzero(pool & ~last.collected).tolist()
        why = f"round {last.record.round} kept scores from {last.record.threshold:.6f}"
        for start in range(0, len(left), _ROWS_A_CHUNK):
            chunk = left[start : start + _ROWS_A_CHUNK]
            rows = [{"url": pages.url[page], "reason": "low-score", "detail": f"score {last.scores[page]:.6f}; {why}"} for page in chunk]
            add(writer, pa.Table.from_pylist(rows, schema=DROPPED_SCHEMA))
    return dict(sorted(counts.items()))
