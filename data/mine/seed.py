"""The classifier's examples: the first round's seed, and how it grows (paper section 2.1).

The paper begins with 500,000 OpenWebMath pages against 500,000 random Common Crawl pages. Where no seed corpus is at
hand, `crawl-formulas` takes the crawl pages with the most formulas instead (ours). Negatives are drawn once in a
fixed random order; a negative that becomes a positive is replaced by the next in that order. The paper does not say
whether its negatives change between rounds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data.config import MineConfig
from data.errors import MathQuarryError
from data.files import atomic_path
from data.mine.shards import Mask, Pages, iter_texts
from data.mine.urls import parse_address

_SEED_SCHEMA = pa.schema([("text", pa.large_string()), ("canonical_url", pa.string())])
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Seed:
    """Positive and negative examples of one round: pages of the crawl by position, and texts from outside it."""

    positives: Mask
    negatives: Mask
    outside: Path | None = None
    """Parquet of positive texts that are no pages of this crawl."""
    outside_count: int = 0

    @property
    def counts(self) -> tuple[int, int]:
        """Number of positives and of negatives."""
        return int(self.positives.sum()) + self.outside_count, int(self.negatives.sum())

    def examples(self, pages: Pages) -> Iterator[tuple[str, bool]]:
        """Stream (text, is positive)."""
        if self.outside is not None:
            for batch in pq.ParquetFile(self.outside).iter_batches(batch_size=_ROWS_AT_ONCE, columns=["text"]):
                yield from ((text, True) for text in batch["text"].to_pylist())
        used = self.positives | self.negatives
        for number, shard in enumerate(pages.shards):
            labels = iter(self.positives[pages.first[number] : pages.first[number + 1]][pages.rows_of(number, used)].tolist())
            for texts in iter_texts(shard, pages.rows_of(number, used)):
                yield from ((text, next(labels)) for text in texts)


def first_seed(pages: Pages, pool: Mask, config: MineConfig, folder: Path) -> Seed:
    """The seed of round 1, from `config.seed_pages`. Raises `MathQuarryError` when there are no positives or no negatives."""
    wanted = config.seed_pages
    positives = np.zeros(len(pages), dtype=bool)
    if wanted.source == "crawl-formulas":
        candidates = np.flatnonzero(pool & (pages.formulas > 0)).tolist()
        if not candidates:
            raise MathQuarryError(
                "seed_pages.source = crawl-formulas, but no page of the crawl has a formula. Set source = 'file' and give seed_pages.path."
            )
        candidates.sort(key=lambda page: (-pages.formulas[page], pages.canonical_url[page]))
        positives[candidates[: wanted.positives]] = True
        return with_negatives(pages, pool, positives, config, None)
    if not wanted.path:
        raise MathQuarryError(
            "seed_pages.path is not set. Give a JSONL or Parquet file with a `text` column, or hf://open-web-math/open-web-math, "
            "or set seed_pages.source = 'crawl-formulas'."
        )
    outside = folder / "seed.parquet"
    if not outside.exists():
        _copy_sample(wanted.path, wanted.positives, config.seed, outside)
    return with_negatives(pages, pool, positives, config, outside)


def with_negatives(pages: Pages, pool: Mask, positives: Mask, config: MineConfig, outside: Path | None) -> Seed:
    """Complete a seed with random pages of the crawl that are no positives."""
    allowed = pool & ~positives
    outside_count = 0
    if outside is not None:
        known = pq.read_table(outside, columns=["canonical_url"])["canonical_url"].to_pylist()
        outside_count = len(known)
        addresses = set(known) - {""}
        allowed &= np.asarray([url not in addresses for url in pages.canonical_url])
    order = np.random.Generator(np.random.Philox(key=config.seed)).permutation(len(pages))
    negatives = np.zeros(len(pages), dtype=bool)
    negatives[order[allowed[order]][: config.seed_pages.negatives]] = True
    if not negatives.any():
        raise MathQuarryError(
            "no page of the crawl is left for the classifier's negative examples: all of them are positive. "
            "Lower seed_pages.positives or mine a larger crawl."
        )
    return Seed(positives, negatives, outside, outside_count)


def _copy_sample(source: str, count: int, seed: int, target: Path) -> None:
    """Write a random sample of `count` seed texts (all, if there are fewer) with their canonical URLs to a Parquet file."""
    draw = np.random.Generator(np.random.Philox(key=seed))
    written = 0
    with atomic_path(target) as temporary, pq.ParquetWriter(temporary, _SEED_SCHEMA, compression="zstd") as writer:
        batch: list[dict[str, str]] = []
        for record in _sample_records(source, count, draw):
            text = record.get("text")
            if not isinstance(text, str):
                raise MathQuarryError(f"seed_pages.path = {source}: record {written + len(batch) + 1} has no `text` column of strings.")
            address = parse_address(str(record.get("url") or ""))
            batch.append({"text": text, "canonical_url": address.canonical if address else ""})
            if len(batch) == _ROWS_AT_ONCE:
                writer.write_table(pa.Table.from_pylist(batch, schema=_SEED_SCHEMA))
                written, batch = written + len(batch), []
        if batch:
            writer.write_table(pa.Table.from_pylist(batch, schema=_SEED_SCHEMA))
        if not written + len(batch):
            raise MathQuarryError(f"seed_pages.path = {source} holds no seed pages.")


def _sample_records(source: str, count: int, draw: np.random.Generator) -> Iterator[dict]:
    if source.startswith("hf://"):
        yield from _sample_hub(source, count, draw)
        return
    try:
        total = sum(1 for _ in _read_records(source))
        chosen = set(draw.choice(total, size=min(count, total), replace=False).tolist()) if total else set()
        yield from (record for number, record in enumerate(_read_records(source)) if number in chosen)
    except FileNotFoundError:
        raise MathQuarryError(f"seed_pages.path = {source} does not exist.") from None
    except (json.JSONDecodeError, UnicodeDecodeError, pa.ArrowInvalid) as error:
        raise MathQuarryError(
            f"seed_pages.path = {source} cannot be read: {error}. It must be JSONL or Parquet with a `text` column."
        ) from None


def _read_records(source: str) -> Iterator[dict]:
    if source.endswith(".parquet"):
        with fsspec.open(source, "rb") as file:
            for batch in pq.ParquetFile(file).iter_batches(batch_size=_ROWS_AT_ONCE):
                yield from batch.to_pylist()
        return
    with fsspec.open(source, "rt", encoding="utf-8", compression="infer") as file:
        yield from (json.loads(line) for line in file if line.strip())


def _sample_hub(source: str, count: int, draw: np.random.Generator) -> Iterator[dict]:
    from datasets import load_dataset  # slow to import, and most runs need no hub

    name, *options = source.removeprefix("hf://").split(":")
    try:
        dataset = load_dataset(name, options[0] if options and options[0] else None, split=options[1] if len(options) > 1 else "train")
    except (OSError, ValueError) as error:
        raise MathQuarryError(f"seed_pages.path = {source} cannot be loaded from the hub: {error}") from None
    chosen: NDArray[np.int64] = np.sort(draw.choice(len(dataset), size=min(count, len(dataset)), replace=False))
    yield from dataset.select(chosen)
