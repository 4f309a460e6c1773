"""DuckDB over the Parquet files of a crawl, for the steps that process all pages at once, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import atomic_path
from mathquarry.data.mine.config import WorkersConfig

_ROWS_A_GROUP = 50_000


@contextmanager
def connect(workers: WorkersConfig, spill: Path, threads: int = 1) -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory DuckDB that uses at most `workers.memory_gib` and spills to the folder `spill`.

    Raises `MathQuarryError` when that disk is full, or when a query needs more memory and cannot spill.
    """
    spill.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute(f"set memory_limit = '{round(workers.memory_gib * 1024)}MiB'")
        connection.execute("set temp_directory = $1", [str(spill)])
        connection.execute(f"set threads = {threads}")
        try:
            yield connection
        except duckdb.OutOfMemoryException as error:
            raise MathQuarryError(
                f"a crawl-wide step does not fit: {error}. Raise workers.memory_gib = {workers.memory_gib:g} or "
                f"workers.partitions = {workers.partitions} of the mine section, or free disk space at {spill}; then run again."
            ) from error


def parquet(files: Sequence[Path], options: str = "") -> str:
    """SQL that reads Parquet files, at least one, in the given order; `options` are further arguments of `read_parquet`."""
    names = ", ".join("'" + str(file).replace("'", "''") + "'" for file in files)
    return f"read_parquet([{names}]{', ' * bool(options)}{options})"


def stream(connection: duckdb.DuckDBPyConnection, query: str) -> Iterator[pa.RecordBatch]:
    """The rows of a query in batches, never all at once."""
    reader = connection.sql(query).to_arrow_reader()
    assert reader is not None, "a query that selects gives rows"
    yield from reader


def write_batches(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> int:
    """Write batches as one Parquet file, atomically, in row groups of 50,000 whatever the batch sizes. Returns the number of rows."""
    rows = 0
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        waiting: list[pa.RecordBatch] = []
        for batch in batches:
            waiting.append(batch)
            while sum(part.num_rows for part in waiting) >= _ROWS_A_GROUP:
                table = pa.Table.from_batches(waiting)
                writer.write_table(table.slice(0, _ROWS_A_GROUP).cast(schema), row_group_size=_ROWS_A_GROUP)
                waiting = table.slice(_ROWS_A_GROUP).to_batches()
                rows += _ROWS_A_GROUP
        if waiting:
            rest = pa.Table.from_batches(waiting).cast(schema)
            writer.write_table(rest, row_group_size=_ROWS_A_GROUP)
            rows += rest.num_rows
    return rows
