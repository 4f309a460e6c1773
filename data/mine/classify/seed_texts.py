"""Texts of a seed corpus from outside the crawl: OpenWebMath from a hub, or any Parquet or JSONL files, sampled at random.

Files are read twice, once to count and once to pick, in constant memory. A hub dataset is sampled by index, which downloads
all of it. With streaming, its shards come in random order through a buffer, which downloads only what the sample needs but
is random only among neighbors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.fetch.remote import open_binary
from mathquarry.data.mine.config import SeedConfig
from mathquarry.data.store.sources import expand

_ROWS_AT_ONCE = 1024
_SHUFFLE_ROWS = 10_000
_PACKED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
_HUB = "hf://"


class SeedText(NamedTuple):
    """One text; `url` is "" if the corpus has none."""

    text: str
    url: str


def sample_texts(config: SeedConfig, seed: int) -> Iterator[SeedText]:
    """At most `config.positives` texts of `config.path`, chosen by `seed`.

    Raises `MathQuarryError` naming the path when it cannot be read, or a record has no text.
    """
    assert config.path is not None, "the caller checks that there is a path"
    draw = np.random.Generator(np.random.Philox(key=seed))
    records = _of_hub(config, seed, draw) if config.path.startswith(_HUB) else _of_files(config, draw)
    for number, record in enumerate(records, 1):
        text = record.get(config.text_column)
        if not isinstance(text, str):
            raise MathQuarryError(
                f"seed_pages.path = {config.path}: record {number} has no `{config.text_column}` column of strings; see text_column."
            )
        yield SeedText(text, str(record.get(config.url_column) or ""))


def _of_files(config: SeedConfig, draw: np.random.Generator) -> Iterator[dict[str, Any]]:
    assert config.path is not None, "the caller checks that there is a path"
    files = expand([config.path])
    columns = [config.text_column, config.url_column]
    try:
        total = sum(1 for name in files for _ in _records(name, columns))
        if not total:
            return
        chosen = set(draw.choice(total, size=min(config.positives, total), replace=False).tolist())
        everything = (record for name in files for record in _records(name, columns))
        yield from (record for number, record in enumerate(everything) if number in chosen)
    except (json.JSONDecodeError, UnicodeDecodeError, OSError, pa.ArrowInvalid) as error:
        raise MathQuarryError(
            f"seed_pages.path = {config.path} cannot be read: {error}. It must be Parquet, or JSONL (.gz, .zst, .bz2), "
            f"with a `{config.text_column}` column."
        ) from None


def _records(name: str, columns: list[str]) -> Iterator[dict[str, Any]]:
    with open_binary(name) as file:
        if name.endswith(".parquet"):
            table = pq.ParquetFile(file)
            present = [column for column in columns if column in table.schema_arrow.names]
            for batch in table.iter_batches(batch_size=_ROWS_AT_ONCE, columns=present):
                yield from batch.to_pylist()
            return
        packing = next((kind for ending, kind in _PACKED.items() if name.endswith(ending)), None)
        lines = pa.CompressedInputStream(file, packing) if packing else file
        for line in _lines(lines):
            if line.strip():
                record = json.loads(line)
                yield record if isinstance(record, dict) else {}


def _lines(file: Any) -> Iterator[bytes]:
    """Lines of a binary stream that may have no method but `read`."""
    rest = b""
    while block := file.read(1 << 20):
        *whole, rest = (rest + block).split(b"\n")
        yield from whole
    yield rest


def _of_hub(config: SeedConfig, seed: int, draw: np.random.Generator) -> Iterator[dict[str, Any]]:
    from datasets import load_dataset  # slow to import, and most runs need no hub
    from datasets.exceptions import DatasetNotFoundError

    assert config.path is not None, "the caller checks that there is a path"
    name, *options = config.path.removeprefix(_HUB).split(":")
    part = options[0] if options and options[0] else None
    split = options[1] if len(options) > 1 else "train"
    try:
        dataset = load_dataset(name, part, split=split, revision=config.revision, streaming=config.streaming)
        present = dataset.column_names
        if present is not None:
            dataset = dataset.select_columns([column for column in (config.text_column, config.url_column) if column in present])
        if config.streaming:
            yield from dataset.shuffle(seed=seed, buffer_size=_SHUFFLE_ROWS).take(config.positives)
            return
        yield from dataset.select(np.sort(draw.choice(len(dataset), size=min(config.positives, len(dataset)), replace=False)))
    except (OSError, ValueError, DatasetNotFoundError) as error:
        raise MathQuarryError(f"seed_pages.path = {config.path} cannot be loaded: {error}") from None
