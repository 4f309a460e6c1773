"""Finds duplicates among all captures: same URL, then same text, then nearly the same text. Each step sees only what the previous one kept.

Every step is split into ranges of keys (`keys.py`). A range is a job that needs no more memory than DuckDB's limit and the
signatures of its own candidates. Which of several duplicates stays does not depend on the number of jobs, nor, except for
repeated captures of one URL, on the order of the crawl.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mathquarry.data.files import atomic_path
from mathquarry.data.mine.config import MineConfig
from mathquarry.data.mine.library.keys import key_file, key_range, write_keys
from mathquarry.data.mine.pages.pool import WorkerPool
from mathquarry.data.mine.pages.shards import Captures, signatures
from mathquarry.data.mine.pages.signatures import similar_pairs
from mathquarry.data.mine.pages.tables import connect, parquet, stream, write_batches

STEPS = ("url-duplicate", "exact-duplicate", "near-duplicate")

_PAIRS = pa.schema([("capture", pa.int64()), ("keep", pa.int64())])


def find_duplicates(shards: Sequence[Path], config: MineConfig, keys: Path, folder: Path, pool: WorkerPool) -> dict[str, list[Path]]:
    """Parquet files of (capture to drop, capture that stays instead), by step.

    Keys go to the folder `keys`, everything else to `folder`; finished files there are reused.
    """
    jobs = [(shard, number, keys, config.dedup) for number, shard in enumerate(shards)]
    pool.run("make keys", "shard", write_keys, jobs)
    found: dict[str, list[Path]] = {}
    for step, kind in zip(STEPS[:2], ("url", "text"), strict=True):
        files = [key_file(keys, kind, number) for number in range(len(shards))]
        found[step] = _in_parts(step, drop_repeated, files, found, config, folder, pool)
    files = [key_file(keys, "band", number) for number in range(len(shards))]
    pairs = _in_parts("similar-pair", find_similar, files, found, config, folder, pool, list(shards))
    result = folder / "near-duplicate.parquet"
    if not result.exists():
        _drop_near(pairs, shards, config, folder / "spill", result)
    return found | {STEPS[2]: [result]}


def removed_captures(found: dict[str, list[Path]]) -> Captures:
    """All captures that duplicate removal drops, sorted."""
    parts = [pq.read_table(file, columns=["capture"])["capture"].to_numpy() for files in found.values() for file in files]
    return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *parts]))


def _in_parts(
    what: str,
    function: Callable[..., None],
    files: list[Path],
    before: dict[str, list[Path]],
    config: MineConfig,
    folder: Path,
    pool: WorkerPool,
    *more: Any,
) -> list[Path]:
    """Run `function` for every range of keys; returns the results in the order of the ranges."""
    gone = [file for step in before.values() for file in step]
    parts = config.workers.partitions
    results = [folder / what / f"{part:04d}-of-{parts}.parquet" for part in range(parts)]
    jobs = [
        (files, gone, key_range(part, parts), config, folder / "spill", result, *more)
        for part, result in enumerate(results)
        if not result.exists()
    ]
    pool.run(f"find {what}s", "part", function, jobs)
    return results


def drop_repeated(files: list[Path], gone: list[Path], keys: tuple[int, int], config: MineConfig, spill: Path, result: Path) -> None:
    """Write the pairs of captures with equal full keys. The first capture of a URL stays; of equal texts, the smallest URL stays."""
    by_text = "canonical_url" in pq.read_schema(files[0]).names
    keep = "arg_min(capture, canonical_url)" if by_text else "min(capture)"
    with connect(config.workers, spill) as connection:
        _select_keys(connection, files, gone, keys)
        found = stream(
            connection,
            f"""
            with groups as (select key, rest, {keep} as keep from keys group by key, rest having count(*) > 1)
            select capture, keep from keys join groups using (key, rest) where capture <> keep order by capture
            """,
        )
        write_batches(result, _PAIRS, found)


def _select_keys(connection: duckdb.DuckDBPyConnection, files: list[Path], gone: list[Path], keys: tuple[int, int]) -> None:
    """Make the view `keys`: the rows of `files` whose key lies in the range and whose capture is not in `gone`."""
    first, last = keys
    left = f"where capture not in (select capture from {parquet(gone)})" if gone else ""
    ranged = f"select * from {parquet(files)} where key between {first}::ubigint and {last}::ubigint"
    connection.execute(f"create temp view keys as select * from ({ranged}) {left}")


def find_similar(
    files: list[Path], gone: list[Path], keys: tuple[int, int], config: MineConfig, spill: Path, result: Path, shards: list[Path]
) -> None:
    """Write pairs of similar captures that share a band, enough to determine the connected components."""
    with connect(config.workers, spill) as connection:
        _select_keys(connection, files, gone, keys)
        rows = connection.execute(
            """
            select key, capture, place from keys semi join (select key from keys group by key having count(*) > 1) using (key)
            order by key, capture
            """
        ).fetchnumpy()
    members, first, index = np.unique(rows["capture"], return_index=True, return_inverse=True)
    buckets = np.split(index, np.flatnonzero(rows["key"][1:] != rows["key"][:-1]) + 1) if len(index) else []
    found = similar_pairs(buckets, _signatures_of(rows["place"][first], shards, config), config.dedup.threshold)
    table = pa.table({"capture": members[found[:, 0]], "keep": members[found[:, 1]]}, schema=_PAIRS)
    with atomic_path(result) as temporary:
        pq.write_table(table, temporary)


def _signatures_of(places: NDArray[np.int64], shards: list[Path], config: MineConfig) -> NDArray[np.uint32]:
    functions = config.dedup.bands * config.dedup.rows
    found = np.empty((len(places), functions), dtype=np.uint32)
    for shard in np.unique(places >> 32).tolist():
        here = places >> 32 == shard
        found[here] = signatures(shards[shard], functions)[places[here] & 0xFFFFFFFF]
    return found


def _drop_near(pairs: list[Path], shards: Sequence[Path], config: MineConfig, spill: Path, result: Path) -> None:
    """Keep the capture whose URL sorts first in each connected component of similar captures."""
    edges = pa.concat_tables([pq.read_table(part) for part in pairs])
    ends = np.stack([edges["capture"].to_numpy(), edges["keep"].to_numpy()])
    members, index = np.unique(ends, return_inverse=True)
    left, right = index.reshape(ends.shape)
    graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(len(members), len(members)))
    component = connected_components(graph, directed=False)[1] if len(members) else np.empty(0, dtype=np.int32)
    with connect(config.workers, spill, config.workers.count) as connection:
        connection.register("members", pa.table({"capture": members, "component": component}))
        found = stream(
            connection,
            f"""
            with named as (select capture, component, canonical_url from {parquet(shards)} join members using (capture)),
                 kept as (select component, arg_min(capture, canonical_url) as keep from named group by component)
            select capture, keep from members join kept using (component) where capture <> keep order by capture
            """,
        )
        write_batches(result, _PAIRS, found)
