"""The classifiers' examples: the first round's seed, and how it grows (paper section 2.1).

The paper starts with 500,000 OpenWebMath pages against 500,000 random Common Crawl pages. Our additions: if the crawl
contains the seed's pages, its own extraction of them can replace their texts (`file-urls`); without a seed, the pages with
the most formulas serve as one (`crawl-formulas`). Negatives are drawn once in a fixed random order. From the second round
on, those that the previous round collected are left out, since most of them are mathematics. The paper does not say
whether its negatives change between rounds. Their number is limited by a share of the crawl (`seed_pages.most_of_crawl`)
and by `seed_pages.negatives_per_positive`: in a small crawl the paper's number would take every page, and a small seed
would vanish among them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from mathquarry.data.crawl.urls import parse_address
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import atomic_path
from mathquarry.data.mine.classify.seed_texts import sample_texts
from mathquarry.data.mine.config import MineConfig, SeedConfig, SeparationConfig
from mathquarry.data.mine.library.library import Library, draws
from mathquarry.data.mine.pages.shards import Captures, Mask, iter_texts

_SEED_SCHEMA = pa.schema([("text", pa.large_string()), ("canonical_url", pa.string())])
_ROWS_AT_ONCE = 1024
# Number of captures with the most signs of formulas that are extracted per wanted positive page.
_FORMULA_CANDIDATES = 4
# Held-out pages are drawn with another seed than the negatives.
_HELD_OUT_DRAW = 0x5E9A
_HELD_OUT_LEAST, _HELD_OUT_MOST = 20, 5000
# At most one in this many pages of a small class is held out.
_HELD_OUT_ONE_IN = 5


@dataclass(frozen=True)
class HeldOut:
    """The examples that a round's classifier is measured on instead of trained on; none if a class has too few."""

    outside: Mask
    """Which texts from outside the crawl, shape (outside_count,)."""
    positives: Captures
    negatives: Captures

    @property
    def counts(self) -> tuple[int, int]:
        """Number of positives and of negatives."""
        return int(self.outside.sum()) + len(self.positives), len(self.negatives)


@dataclass(frozen=True)
class Seed:
    """Positive and negative examples of one round: pages of the crawl by capture (sorted), and texts from outside it."""

    positives: Captures
    negatives: Captures
    outside: Path | None = None
    """Parquet of positive texts that are not pages of this crawl."""
    outside_count: int = 0
    limit: str | None = None
    """Name of the field that left fewer negatives than `seed_pages.negatives`; None if none did."""

    @property
    def counts(self) -> tuple[int, int]:
        """Number of positives and of negatives."""
        return len(self.positives) + self.outside_count, len(self.negatives)

    def outside_texts(self) -> Iterator[str]:
        """Stream the positive texts from outside the crawl."""
        if self.outside is not None:
            for batch in pq.ParquetFile(self.outside).iter_batches(batch_size=_ROWS_AT_ONCE, columns=["text"]):
                yield from batch["text"].to_pylist()

    def hold_out(self, config: SeparationConfig, seed: int) -> HeldOut:
        """Choose the held-out examples; the same seed always gives the same ones."""
        outside = np.arange(self.outside_count, dtype=np.uint64)
        drawn = draws(np.concatenate([outside, self.positives.astype(np.uint64)]), seed + _HELD_OUT_DRAW)
        others = draws(self.negatives.astype(np.uint64), seed + _HELD_OUT_DRAW)
        sizes = [_held_out_size(count, config) for count in self.counts]
        if min(sizes) < config.least_pages:
            sizes = [0, 0]
        positive = np.zeros(len(drawn), dtype=bool)
        positive[np.argsort(drawn, kind="stable")[: sizes[0]]] = True
        chosen = self.positives[positive[self.outside_count :]]
        return HeldOut(positive[: self.outside_count], chosen, np.sort(self.negatives[np.argsort(others, kind="stable")[: sizes[1]]]))

    def examples(self, library: Library, held_out: HeldOut | None = None) -> Iterator[tuple[str, bool]]:
        """Stream (careful text, is positive) of the examples that are not held out."""
        left_out = held_out or HeldOut(np.zeros(self.outside_count, dtype=bool), self.positives[:0], self.negatives[:0])
        yield from ((text, True) for text, held in zip(self.outside_texts(), left_out.outside.tolist(), strict=True) if not held)
        positives, negatives = np.setdiff1d(self.positives, left_out.positives), np.setdiff1d(self.negatives, left_out.negatives)
        yield from _labelled(library, positives, negatives)

    def held_out_examples(self, library: Library, held_out: HeldOut) -> Iterator[tuple[str, bool]]:
        """Stream (careful text, is positive) of the held-out examples."""
        yield from ((text, True) for text, held in zip(self.outside_texts(), held_out.outside.tolist(), strict=True) if held)
        yield from _labelled(library, held_out.positives, held_out.negatives)


def _held_out_size(count: int, config: SeparationConfig) -> int:
    """Number of held-out pages out of `count` pages of a class."""
    share = round(config.held_out * count)
    return min(max(share, min(_HELD_OUT_LEAST, count // _HELD_OUT_ONE_IN)), _HELD_OUT_MOST)


def _labelled(library: Library, positives: Captures, negatives: Captures) -> Iterator[tuple[str, bool]]:
    """Stream (careful text, is positive) of pages of the crawl."""
    pages = library.pages
    positive = pages.among(positives)
    used = positive | pages.among(negatives)
    for number, shard in enumerate(pages.shards):
        labels = iter(pages.rows_of(number, positive)[pages.rows_of(number, used)].tolist())
        for texts in iter_texts(shard, pages.rows_of(number, used)):
            yield from ((text, next(labels)) for text in texts)


@dataclass(frozen=True)
class Candidates:
    """Captures that the first seed is chosen from, sorted."""

    blind: Captures
    """A sample of the whole crawl. Negatives come only from it, since later pages were picked for looking mathematical."""
    positives: Captures
    crawl: int
    """Unique captures of the whole crawl."""


def first_seed(library: Library, config: MineConfig, folder: Path) -> tuple[Seed, Candidates]:
    """The seed of round 1 from `config.seed_pages`, with its pages extracted. Raises `MathQuarryError` without positives or negatives."""
    wanted = config.seed_pages
    outside = folder / "seed.parquet"
    if wanted.source != "crawl-formulas":
        if not wanted.path:
            raise MathQuarryError(
                "seed_pages.path is not set. Give a JSONL or Parquet file with a `text` column, or hf://open-web-math/open-web-math, "
                "or set seed_pages.source = 'crawl-formulas'."
            )
        if not outside.exists():
            _copy_sample(wanted, config.seed, outside)
    candidates = _candidates(library, config, outside)
    library.grow(np.union1d(candidates.blind, candidates.positives), "00-seed")
    pages, pool = library.pages, library.pool
    positives = np.empty(0, dtype=np.int64)
    if wanted.source == "crawl-formulas":
        found = np.flatnonzero(pool & (pages.formulas > 0))
        if not len(found):
            raise MathQuarryError(
                "seed_pages.source = crawl-formulas, but no page of the crawl has a formula. Set source = 'file' and give seed_pages.path."
            )
        best = found[np.lexsort((pages.key[found], -pages.formulas[found]))]
        positives = np.sort(pages.capture[best[: wanted.positives]])
    elif wanted.source == "file-urls":
        positives = np.sort(pages.capture[pool & pages.among(candidates.positives)])
        if not len(positives):
            raise MathQuarryError(
                f"seed_pages.source = file-urls, but the crawl has none of the pages that {wanted.path} names in its `url` column."
            )
    nothing = np.empty(0, dtype=np.int64)
    return with_negatives(library, candidates, positives, nothing, config, outside if wanted.source == "file" else None), candidates


def _candidates(library: Library, config: MineConfig, outside: Path) -> Candidates:
    """Scan the captures of all shards, keeping only the best candidates of each kind."""
    wanted, spare = config.seed_pages, config.recall.spare
    crawl = sum(int(library.unique(library.index(number, ["capture"])["capture"]).sum()) for number in range(len(library.captured)))
    negatives = min(wanted.negatives, _most_of_crawl(wanted, crawl))
    most_negatives = round(spare * (negatives + wanted.positives * (wanted.source == "crawl-formulas")))
    named = _keys_of(outside) if wanted.source == "file-urls" else np.empty(0, dtype=np.uint64)
    blind, formulas, found = _Least(most_negatives), _Least(_FORMULA_CANDIDATES * wanted.positives), []
    for number in range(len(library.captured)):
        columns = library.index(number, ["capture", "key", "formulas"])
        unique = library.unique(columns["capture"])
        capture, key = columns["capture"][unique], columns["key"][unique]
        blind.add(draws(key, config.seed), capture)
        if wanted.source == "crawl-formulas":
            count = columns["formulas"][unique].astype(np.int64)
            formulas.add(-count[count > 0], capture[count > 0])
        elif wanted.source == "file-urls":
            found.append(capture[np.isin(key, named)])
    if wanted.source == "crawl-formulas":
        return Candidates(blind.values(), formulas.values(), crawl)
    return Candidates(blind.values(), np.sort(np.concatenate([np.empty(0, dtype=np.int64), *found])), crawl)


def _most_of_crawl(config: SeedConfig, crawl: int) -> int:
    """Most negatives that a crawl of this many unique pages allows."""
    return max(1, int(config.most_of_crawl * crawl))


class _Least:
    """The values with the smallest order numbers, over any number of batches."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._order: list[NDArray] = []
        self._values: list[Captures] = []

    def add(self, order: NDArray, values: Captures) -> None:
        """Add a batch; among equal order numbers, the smaller value comes first."""
        joined, named = np.concatenate([*self._order, order]), np.concatenate([*self._values, values])
        best = np.lexsort((named, joined))[: self._count]
        self._order, self._values = [joined[best]], [named[best]]

    def values(self) -> Captures:
        """The values kept so far, sorted by value."""
        return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *self._values]))


def with_negatives(
    library: Library, candidates: Candidates, positives: Captures, collected: Captures, config: MineConfig, outside: Path | None
) -> Seed:
    """Complete a seed with random pages of the crawl that are not positives and were not collected in the previous round."""
    pages = library.pages
    allowed = library.pool & ~pages.among(positives) & ~pages.among(collected)
    if config.recall.enabled:
        allowed &= pages.among(candidates.blind)
    outside_count = 0
    if outside is not None:
        outside_count = pq.ParquetFile(outside).metadata.num_rows
        allowed &= ~np.isin(pages.key, _keys_of(outside))
    wanted = config.seed_pages
    limits = {
        "most_of_crawl": _most_of_crawl(wanted, candidates.crawl),
        "negatives_per_positive": max(1, int(wanted.negatives_per_positive * (len(positives) + outside_count))),
    }
    limit = min(limits, key=lambda name: limits[name])
    most = min(wanted.negatives, limits[limit])
    drawn = np.flatnonzero(allowed)
    drawn = drawn[np.argsort(draws(pages.key[drawn], config.seed), kind="stable")][:most]
    if not len(drawn):
        raise MathQuarryError(
            "no page of the crawl is left for the classifier's negative examples: all of them are positive or collected. "
            "Lower seed_pages.positives or the token budgets, or mine a larger crawl."
        )
    return Seed(positives, np.sort(pages.capture[drawn]), outside, outside_count, limit if most < wanted.negatives else None)


def _keys_of(outside: Path) -> NDArray[np.uint64]:
    """Keys of the addresses in a seed file."""
    addresses = set(pq.read_table(outside, columns=["canonical_url"])["canonical_url"].to_pylist()) - {""}
    return np.fromiter((xxhash.xxh3_64_intdigest(address.encode("utf-8", "replace")) for address in sorted(addresses)), dtype=np.uint64)


def _copy_sample(config: SeedConfig, seed: int, target: Path) -> None:
    """Write a random sample of the seed's texts with their canonical URLs to a Parquet file."""
    with atomic_path(target) as temporary, pq.ParquetWriter(temporary, _SEED_SCHEMA, compression="zstd") as writer:
        texts = sample_texts(config, seed)
        written = 0
        while batch := list(islice(texts, _ROWS_AT_ONCE)):
            addresses = [parse_address(text.url) for text in batch]
            columns = [[text.text for text in batch], [address.canonical if address else "" for address in addresses]]
            writer.write_table(pa.table(columns, schema=_SEED_SCHEMA))
            written += len(batch)
        if not written:
            raise MathQuarryError(f"seed_pages.path = {config.path} holds no seed pages.")
