"""Further facts for a round's public record: its seed, its ranking of labeled pages, its number of tokens."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mathquarry.data.crawl.urls import parse_address, url_key
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.mine.classify.seed import Seed
from mathquarry.data.mine.config import MineConfig
from mathquarry.data.mine.library.library import Library, draws
from mathquarry.data.mine.pages.shards import Mask, iter_kept
from mathquarry.data.problems.records import read_records

CURVE_POINTS = 50
_POSITIVE, _NEGATIVE = {"math", "math_plain"}, {"nonmath", "other"}


def seed_digest(seed: Seed) -> str:
    """SHA-256 of which captures (by number) and which texts from outside a round's classifier was trained on."""
    digest = hashlib.sha256()
    for captures in (seed.positives, seed.negatives):
        digest.update(np.ascontiguousarray(captures, dtype="<i8").tobytes() + b"|")
    if seed.outside is not None:
        for text in pq.read_table(seed.outside, columns=["text"])["text"].to_pylist():
            digest.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    return digest.hexdigest()


def duplicates_by_kind(library: Library) -> dict[str, int]:
    """Captures dropped by each step of duplicate removal, those with equal careful texts included."""
    steps = chain(library.duplicates.items(), library.repeated.items())
    counts: dict[str, int] = {}
    for name, files in steps:
        counts[name] = counts.get(name, 0) + sum(pq.read_metadata(file).num_rows for file in files)
    return counts


@lru_cache(maxsize=2)
def read_labels(path: Path) -> dict[int, bool]:
    """Labeled pages by the key of their canonical URL, from a JSONL file with `url` and `label`.

    A label is true or false, `math` or `math_plain`, `nonmath` or `other`. Raises `MathQuarryError` naming file and line.
    """
    labels: dict[int, bool] = {}
    for record in read_records(str(path)):
        if record.fault:
            raise MathQuarryError(f"{record.place} cannot be used: {record.fault}.")
        label, url = record.fields.get("label"), str(record.fields.get("url") or "")
        address = parse_address(url)
        if address is None or not (isinstance(label, bool) or label in _POSITIVE | _NEGATIVE):
            kinds = "true, false, math, math_plain, nonmath or other"
            raise MathQuarryError(f"{record.place}: a labeled page has a `url` and a `label` ({kinds}); got {url!r} and {label!r}.")
        labels[url_key(address.canonical)] = label is True or label in _POSITIVE
    return labels


def ranking(library: Library, scores: NDArray[np.float32], labels: dict[int, bool]) -> dict[str, Any] | None:
    """Average precision and the precision-recall curve on the labeled pages of the pool; None if none of them is positive.

    `curve` has up to 50 points (threshold, precision, recall), from the highest threshold.
    """
    pages = library.pages
    found = np.flatnonzero(library.pool & np.isin(pages.key, np.fromiter(labels, dtype=np.uint64)))
    truth = np.asarray([labels[key] for key in pages.key[found].tolist()], dtype=bool)
    if not truth.any():
        return None
    precision, curve = average_precision(scores[found], truth)
    return {
        "pages": len(found),
        "positives": int(truth.sum()),
        "missing": len(labels) - len(found),
        "average_precision": precision,
        "curve": curve,
    }


def average_precision(scores: NDArray[np.float32], truth: Mask) -> tuple[float, list[tuple[float, float, float]]]:
    """Average precision (the sum over thresholds of precision times gain in recall; equal scores are one threshold) and the curve."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(scores[order]) != 0, True])
    hits = np.cumsum(truth[order])[ends]
    precision, recall = hits / (ends + 1), hits / truth.sum()
    average = float(np.sum(precision * np.diff(recall, prepend=0.0)))
    points = np.unique(np.linspace(0, len(ends) - 1, min(CURVE_POINTS, len(ends))).round().astype(int))
    return average, [(float(scores[order[ends[at]]]), float(precision[at]), float(recall[at])) for at in points]


def count_tokens(library: Library, collected: Mask, config: MineConfig) -> tuple[int, int] | None:
    """(tokens, standard error) of the pages of `collected`, from a sample that `config.tokenizer` counts; None without a tokenizer.

    A ratio estimate: all bytes times the sample's tokens per byte, with the error of that ratio (Cochran 1977, section 2.11).
    """
    if config.tokenizer is None:
        return None
    tokenizer = _load_tokenizer(config.tokenizer)
    pages = library.pages
    candidates = np.flatnonzero(collected)
    sampled = candidates[np.argsort(draws(pages.key[candidates], config.seed), kind="stable")[: config.token_sample]]
    mask = np.zeros(len(pages), dtype=bool)
    mask[sampled] = True
    counted: list[int] = []
    sizes: list[int] = []
    total = 0
    for number, shard in enumerate(pages.shards):
        if not (rows := pages.rows_of(number, collected)).any():
            continue
        picked = iter(pages.rows_of(number, mask)[rows].tolist())
        for batch in iter_kept(shard, rows, ["bytes", "text"] if pages.rows_of(number, mask).any() else ["bytes"]):
            total += pa.compute.sum(batch["bytes"]).as_py()
            chosen = [row for row in range(batch.num_rows) if next(picked)]
            texts = [batch["text"][row].as_py() for row in chosen]
            counted += [len(encoding.ids) for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
            sizes += [batch["bytes"][row].as_py() for row in chosen]
    return ratio_estimate(counted, sizes, total, len(candidates))


def ratio_estimate(tokens: Sequence[int], sizes: Sequence[int], total: int, population: int) -> tuple[int, int]:
    """(estimate, standard error) of the tokens of `population` pages with `total` bytes, from a sample's tokens and bytes per page."""
    y, x = np.asarray(tokens, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    ratio, count = y.sum() / x.sum(), len(y)
    if count < 2:
        return round(total * ratio), 0
    variance = np.square(y - ratio * x).sum() / (count - 1) * (1 - count / population) / count
    return round(total * ratio), round(total * math.sqrt(variance) / x.mean())


@lru_cache(maxsize=1)
def _load_tokenizer(path: str) -> Any:
    from tokenizers import Tokenizer  # only runs that count tokens need it

    file = Path(path) / "tokenizer.json" if Path(path).is_dir() else Path(path)
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the package raises bare exceptions
        raise MathQuarryError(
            f"tokenizer = {path} of the mine section cannot be read: {error}. Give a tokenizer.json or its folder."
        ) from None
