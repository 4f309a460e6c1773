"""Writes the output of mining: the corpus, and the list of dropped pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mathquarry.data.files import atomic_path
from mathquarry.data.mine.classify.recall import Recall
from mathquarry.data.mine.library.library import Library
from mathquarry.data.mine.pages.shards import FORMULA_KINDS, Captures, Pages, iter_kept
from mathquarry.data.mine.pages.tables import connect, parquet, stream, write_batches
from mathquarry.data.mine.record.round import Round

CORPUS_SCHEMA = pa.schema(
    [
        ("url", pa.string()),
        ("host", pa.string()),
        ("text", pa.large_string()),
        ("score", pa.float32()),
        ("tokens", pa.int32()),
        ("formulas", pa.int32()),
        ("formula_kinds", FORMULA_KINDS),
        ("language", pa.string()),
        ("round", pa.int8()),
    ]
)
DROPPED_SCHEMA = pa.schema([("url", pa.string()), ("reason", pa.string()), ("detail", pa.string())])

_COLUMNS = ["url", "host", "text", "tokens", "formulas", "formula_kinds", "language"]
_PAGES_A_PART = 50_000


def first_rounds(captures: Captures, rounds: Sequence[Captures]) -> NDArray[np.int8]:
    """The round (from 1) in which each of `captures` was first collected; 0 for those that never were."""
    first = np.zeros(len(captures), dtype=np.int8)
    for number, collected in enumerate(rounds, 1):
        first[(first == 0) & np.isin(captures, collected)] = number
    return first


def write_corpus(pages: Pages, last: Round, first_round: NDArray[np.int8], folder: Path) -> int:
    """Write the last round's pages as `part-NNNN.parquet`, in the library's order, up to 50,000 per part. Returns the number of parts."""
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
    collected = pages.among(last.collected)
    for number, shard in enumerate(pages.shards):
        chosen = pages.rows_of(number, collected)
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


def write_dropped(library: Library, last: Round, recalled: Recall | None, path: Path) -> dict[str, int]:
    """Write everything that is not in the corpus, with the reason: from reading, duplicate removal, the first pass, careful extraction,
    decontamination, or `low-score`. Returns counts by reason.
    """
    workers = library.config.workers
    with connect(workers, library.scratch / "spill", workers.count) as connection:
        queries = " union all ".join(_dropped(connection, library, last, recalled))
        counts: Counter[str] = Counter()

        def counted() -> Iterator[pa.RecordBatch]:
            for batch in stream(connection, f"{queries} order by step, place, url"):
                counts.update(batch["reason"].to_pylist())
                yield batch.select(DROPPED_SCHEMA.names)

        write_batches(path, DROPPED_SCHEMA, counted())
    return dict(sorted(counts.items()))


def _dropped(connection: duckdb.DuckDBPyConnection, library: Library, last: Round, recalled: Recall | None) -> Iterator[str]:
    """Queries of (step, place, url, reason, detail), one for each step that drops pages; (step, place) is their order."""
    captured = f"(select capture, url from {parquet(library.captured)} where reason = '')"
    steps = count()
    yield (
        f"select {next(steps)} as step, row_number() over (order by filename, file_row_number) as place, url, reason, detail "
        f"from {parquet(library.captured, 'filename = true, file_row_number = true')} where reason <> ''"
    )
    for reason, files in [*library.duplicates.items(), *library.repeated.items()]:
        yield (
            f"select {next(steps)}, dropped.capture, here.url, '{reason}', 'repeats ' || kept.url from {parquet(files)} dropped "
            f"join {captured} here on here.capture = dropped.capture join {captured} kept on kept.capture = dropped.keep"
        )
    pages, pool = library.pages, library.pool
    if recalled is not None:
        connection.register("weak", _weak(library, recalled))
        why = f"round {last.record.round} let through from {recalled.threshold:.6f}"
        score = f"format('first-pass score {{:.6f}}; {why}', score)"
        yield f"select {next(steps)}, capture, url, 'low-recall-score', {score} from weak join {captured} using (capture)"
        yield f"select {next(steps)}, capture, url, reason, detail from {parquet(pages.shards)} where reason <> ''"
    quoting = library.contamination.dropped
    columns = {"capture": pa.array(list(quoting), pa.int64()), "detail": pa.array(list(quoting.values()), pa.string())}
    connection.register("quoting", pa.table(columns))
    yield f"select {next(steps)}, capture, url, 'contaminated', detail from quoting join {captured} using (capture)"
    left = pool & ~pages.among(last.collected)
    connection.register("low", pa.table({"capture": pages.capture[left], "score": last.scores[left].astype(np.float64)}))
    why = f"round {last.record.round} kept scores from {last.record.selection.threshold:.6f}"
    score = f"format('score {{:.6f}}; {why}', score)"
    yield f"select {next(steps)}, capture, url, 'low-score', {score} from low join {captured} using (capture)"


def _weak(library: Library, recalled: Recall) -> pa.RecordBatchReader:
    """Captures without a careful text, with their first-pass scores."""
    schema = pa.schema([("capture", pa.int64()), ("score", pa.float64())])
    tried = np.sort(np.concatenate([pq.read_table(shard, columns=["capture"])["capture"].to_numpy() for shard in library.pages.shards]))

    def batches() -> Iterator[pa.RecordBatch]:
        for number, file in enumerate(recalled.scores):
            capture = library.index(number, ["capture"])["capture"]
            left = library.unique(capture) & np.isin(capture, tried, invert=True)
            yield pa.record_batch([pa.array(capture[left]), pa.array(np.load(file)[left].astype(np.float64))], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())
