"""Reads rows of Parquet, Arrow and CSV files as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet as pq

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems.unpacked import LARGEST

_ERRORS = (pa.ArrowException, OSError, ValueError, OverflowError)
_ROWS = 256
"""Rows that are decoded at once."""


def parquet_rows(file: pa.NativeFile, path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet file. Raises `MathQuarryError` if it is damaged or too large."""
    try:
        yield from _rows(pq.ParquetFile(file).iter_batches(batch_size=_ROWS), path)
    except _ERRORS as error:
        raise _damaged(path, "Parquet", error) from None


def arrow_rows(file: pa.NativeFile, path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of an Arrow file, as in the cache of `datasets`. Raises `MathQuarryError` if it is damaged or too large."""
    try:
        reader = pa.ipc.open_file(file)
        yield from _rows((reader.get_batch(number) for number in range(reader.num_record_batches)), path)
    except _ERRORS as error:
        raise _damaged(path, "Arrow", error) from None


def csv_rows(file: pa.NativeFile, coding: str, separator: str, path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a CSV file with a header; all values are text. Raises `MathQuarryError` if it is not a table."""
    content = file.read()
    content.decode(coding)  # the library's own message does not give the reason
    read = pa.csv.ReadOptions(encoding=coding)
    parse = pa.csv.ParseOptions(delimiter=separator, newlines_in_values=True)
    try:
        names = pa.csv.open_csv(pa.BufferReader(content), read, parse).schema.names
        as_text = pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
        yield from _rows(pa.csv.read_csv(pa.BufferReader(content), read, parse, as_text).to_batches(_ROWS), path)
    except _ERRORS as error:
        raise _damaged(path, "CSV", error) from None


def _rows(batches: Iterable[pa.RecordBatch], path: Path) -> Iterator[dict[str, Any]]:
    read = 0
    for batch in batches:
        read += batch.nbytes
        if read > LARGEST:
            raise MathQuarryError(f"{path} has more than {LARGEST:,} bytes. Split it, and list the parts.")
        batch.validate(full=True)  # without this, a damaged batch ends the process
        yield from batch.to_pylist()


def _damaged(path: Path, kind: str, error: Exception) -> MathQuarryError:
    return MathQuarryError(f"{path} is damaged or not a complete {kind} file: {' '.join(str(error).split())[:200]}. Fetch it again.")
