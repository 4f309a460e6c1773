"""Near-duplicates: MinHash over word n-grams, banded (LSH), every candidate pair verified by its estimated Jaccard similarity.

The paper (section 2.1) says only that near-duplicates were removed; method and parameters are our choice.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mathquarry.data.mine.config import DedupConfig
from mathquarry.data.mine.pages.hashing import gram_hashes, shingle_hashes

Indices = NDArray[np.int64]
Signatures = NDArray[np.uint32]

# Shingles hashed at once by every function (4 bytes per product), few enough for the processor's caches.
_BLOCK = 4096


def minhash(text: str, config: DedupConfig) -> Signatures:
    """MinHash signature of a text, shape (bands * rows,): for each hash function, the minimum over the text's distinct n-grams.

    A text shorter than an n-gram counts as one n-gram of all its tokens. Hash functions are (a * x + b) mod 2**32 with odd a, where x is
    the upper half of an n-gram's hash. Two texts of 10,000 n-grams have two different n-grams with equal x in about 2 % of cases.
    """
    hashes = shingle_hashes(text)
    # Repeated n-grams do not change a minimum, and removing them costs more than hashing them.
    shingles = (gram_hashes(hashes, min(config.ngram, max(len(hashes), 1))) >> np.uint64(32)).astype(np.uint32)
    factors, offsets = _hash_family(config.bands * config.rows)
    least = np.full(len(factors), np.iinfo(np.uint32).max, dtype=np.uint32)
    for start in range(0, len(shingles), _BLOCK):
        hashed = factors[:, None] * shingles[start : start + _BLOCK]
        hashed += offsets[:, None]
        np.minimum(least, hashed.min(axis=1), out=least)
    return least


@lru_cache(maxsize=4)
def _hash_family(count: int) -> tuple[Signatures, Signatures]:
    draw = np.random.Generator(np.random.Philox(key=0x5EED))
    factors = draw.integers(0, 2**32, size=count, dtype=np.uint32) | np.uint32(1)
    return factors, draw.integers(0, 2**32, size=count, dtype=np.uint32)


def similar_pairs(buckets: Iterable[Indices], signatures: Signatures, threshold: float) -> Indices:
    """Pairs of rows of `signatures` that share a bucket and agree in at least `threshold` of their hashes, shape (pairs, 2).

    Returns a spanning forest, which determines the connected components. `signatures` has shape (rows, bands * rows of a band).
    """
    union = _UnionFind(len(signatures))
    for bucket in buckets:
        _join_bucket(bucket, signatures, threshold, union)
    roots = np.asarray([union.find(row) for row in range(len(signatures))], dtype=np.int64)
    rows = np.flatnonzero(roots != np.arange(len(roots)))
    return np.stack([rows, roots[rows]], axis=1)


def _join_bucket(rows: Indices, signatures: Signatures, threshold: float, union: _UnionFind) -> None:
    """Verify all pairs of one bucket, except pairs already in one component: a big cluster costs one comparison per member."""
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
