"""The census of a crawl after a round: every capture that duplicate removal and decontamination kept, and whether it was collected.

A domain's pages include those that did not pass the first classifier, so shares are shares of the whole domain, not of the
pages that looked like mathematics.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mathquarry.data.mine.library.library import Library
from mathquarry.data.mine.pages.shards import Captures
from mathquarry.data.mine.pages.tables import connect, parquet


@contextmanager
def census(library: Library, collected: Captures, scores: NDArray[np.float32]) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the view `captures`: capture, host, domain, path, title, key, collected, score; one row per capture.

    `scores` has one score per page of the library; captures that are not pages have none (null).
    """
    workers = library.config.workers
    with connect(workers, library.scratch / "spill", workers.count) as connection:
        gone = pa.concat_arrays([pa.array(library.removed, pa.int64()), pa.array(list(library.contamination.dropped), pa.int64())])
        connection.register("gone", pa.table({"capture": gone}))
        connection.register("taken", pa.table({"capture": pa.array(collected, pa.int64())}))
        connection.register("scored", pa.table({"capture": library.pages.capture, "score": scores}))
        connection.execute(
            f"""
            create view captures as
            select capture, host, domain, path, title, key, capture in (select capture from taken) as collected, score
            from {parquet(library.captured)} left join scored using (capture)
            where reason = '' and capture not in (select capture from gone)
            """
        )
        yield connection
