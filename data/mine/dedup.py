"""Duplicate removal: same URL, same text, nearly the same text.

Near-duplicates are found with MinHash over word n-grams, banded (LSH), every candidate pair verified by its estimated
Jaccard similarity, and joined into connected components. The paper (section 2.1) says only that near-duplicates were
removed; method and parameters are our choice.

All signatures (4 bytes x bands x rows a page) are held in memory: 450 MB for a million pages with the default 14 x 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from data.config import DedupConfig
from data.mine.hashing import gram_hashes, shingle_tokens, token_hashes

Indices = NDArray[np.int64]
Signatures = NDArray[np.uint32]

# Products held at once (8 bytes each): small enough for the processor's nearest caches.
_BLOCK = 4096


@dataclass
class Duplicates:
    """Which pages go, and why. Positions are page positions in the crawl's order."""

    survivor: dict[int, int] = field(default_factory=dict)
    """Dropped page -> the page that stays in its place."""
    reason: dict[int, str] = field(default_factory=dict)
    """Dropped page -> `url-duplicate`, `exact-duplicate` or `near-duplicate`."""

    def drop(self, page: int, keep: int, reason: str) -> None:
        """Record that `page` repeats `keep`."""
        self.survivor[page] = keep
        self.reason[page] = reason


def minhash(text: str, config: DedupConfig) -> Signatures:
    """MinHash signature of a text, shape (bands * rows,): for each hash function the least hash over the text's distinct n-grams.

    A text shorter than an n-gram counts as one n-gram of all its tokens. Hash functions are multiply-shift (a * x +
    b) >> 32 with odd a.
    """
    hashes = token_hashes(shingle_tokens(text))
    shingles = gram_hashes(hashes, min(config.ngram, max(len(hashes), 1)))  # repeated ones do not change a minimum
    factors, offsets = _hash_family(config.bands * config.rows)
    if not len(shingles):
        return np.full(len(factors), np.iinfo(np.uint32).max, dtype=np.uint32)
    block = max(1, _BLOCK // len(factors))
    least = np.full(len(factors), np.iinfo(np.uint64).max, dtype=np.uint64)
    for start in range(0, len(shingles), block):
        hashed = shingles[start : start + block, None] * factors + offsets
        np.minimum(least, hashed.min(axis=0), out=least)
    # The shift is monotone, so it may follow the minimum.
    return (least >> np.uint64(32)).astype(np.uint32)


@lru_cache(maxsize=4)
def _hash_family(count: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    draw = np.random.Generator(np.random.Philox(key=0x5EED))
    factors = draw.integers(0, 2**64, size=count, dtype=np.uint64) | np.uint64(1)
    return factors, draw.integers(0, 2**64, size=count, dtype=np.uint64)


def find_repeated(keys: Sequence[str | bytes], pages: Indices, order: Sequence[str] | None = None) -> list[tuple[int, int]]:
    """Pairs (page to drop, page to keep) among `pages` whose `keys` are equal.

    `keys` and `order` are indexed by page. The first page in `pages` stays, or with `order` the one that sorts first.
    """
    kept: dict[str | bytes, int] = {}
    sequence = pages.tolist() if order is None else sorted(pages.tolist(), key=lambda page: (order[page], page))
    dropped = [(page, kept[keys[page]]) for page in sequence if kept.setdefault(keys[page], page) != page]
    return sorted(dropped)


def find_near_duplicates(signatures: Signatures, pages: Indices, order: Sequence[str], config: DedupConfig) -> list[tuple[int, int]]:
    """Pairs (page to drop, page to keep) of near-duplicates.

    `signatures` has one row for each entry of `pages`, shape (len(pages), bands * rows). Of each connected component
    the page whose `order` value (its URL; indexed by page) sorts first stays, so the result depends neither on the
    order of reading nor on the number of processes.
    """
    union = _UnionFind(len(pages))
    for band in range(config.bands):
        columns = np.ascontiguousarray(signatures[:, band * config.rows : (band + 1) * config.rows])
        keys = columns.view(np.dtype((np.void, columns.dtype.itemsize * config.rows))).ravel()
        by_key = np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.r_[True, keys[by_key][1:] != keys[by_key][:-1]])
        for start, end in zip(starts, np.r_[starts[1:], len(keys)], strict=True):
            if end - start > 1:
                _join_bucket(by_key[start:end], signatures, config.threshold, union)
    members: dict[int, list[int]] = {}
    for row in range(len(pages)):
        members.setdefault(union.find(row), []).append(int(pages[row]))
    dropped: list[tuple[int, int]] = []
    for component in members.values():
        keep = min(component, key=lambda page: (order[page], page))
        dropped += [(page, keep) for page in component if page != keep]
    return sorted(dropped)


def _join_bucket(rows: Indices, signatures: Signatures, threshold: float, union: _UnionFind) -> None:
    """Verify all pairs of one bucket, except pairs that are in one component already: a big cluster costs one comparison a member."""
    for position, leader in enumerate(rows[:-1].tolist()):
        root = union.find(leader)
        others = [row for row in rows[position + 1 :].tolist() if union.find(row) != root]
        if not others:
            continue
        similarity = (signatures[others] == signatures[leader]).mean(axis=1)
        for row in np.asarray(others)[similarity >= threshold].tolist():
            union.join(leader, row)


class _UnionFind:
    """Connected components by path halving; the smaller root wins, so roots do not depend on the order of joins."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def find(self, item: int) -> int:
        parent = self._parent
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    def join(self, a: int, b: int) -> None:
        a, b = self.find(a), self.find(b)
        self._parent[max(a, b)] = min(a, b)
