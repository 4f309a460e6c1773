"""Benchmark decontamination of a crawl's pages (paper section 2.1): text that quotes a benchmark does not enter the corpus.

`benchmarks.py` defines a quotation. The paper removes "any text segment" with one. `remove = "segment"` does that
(`segments.py`), and drops the whole page when less than `min_characters` remain. Our default is `remove = "page"`, since a
page that quotes a problem often discusses it in other words in the next paragraph. Both count pages and segments.

With `remove = "segment"`, a copy of the shard without the segments replaces it in all later steps, so neither the
classifier nor the corpus sees them. Text, bytes and tokens are those of the remaining text; the number of formulas and the
signatures for duplicates are still those of the whole page.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mathquarry.data.files import atomic_path
from mathquarry.data.mine.config import DecontaminationConfig
from mathquarry.data.mine.library.benchmarks import BenchmarkIndex, Hit, benchmark_texts, read_benchmarks
from mathquarry.data.mine.library.segments import join_without, split_segments
from mathquarry.data.mine.pages.hashing import words
from mathquarry.data.mine.pages.pool import WorkerPool
from mathquarry.data.mine.pages.shards import Mask, Pages, iter_texts, token_estimate

_QUOTE = pa.struct(
    [
        ("benchmark", pa.string()),
        ("problem", pa.string()),
        ("part", pa.string()),
        ("n", pa.int32()),
        ("segments", pa.int32()),
        ("quote", pa.string()),
    ]
)
_HIT_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("segments", pa.int32()),
        ("dropped", pa.string()),
        ("tokens", pa.int32()),
        ("tokens_left", pa.int32()),
        ("quotes", pa.list_(_QUOTE)),
    ]
)
QUOTES_SCHEMA = pa.schema([("url", pa.string()), ("removed", pa.string()), *_QUOTE])
"""Columns of `contamination.parquet`: a row for each benchmark text that a page quotes. `removed` is `page` or `segment`;
`segments` counts the page's segments with that text, `quote` is the first run of words that matched."""


class Quotation(NamedTuple):
    """The quotations in a page, and its remaining text."""

    hits: list[Hit]
    """The first match of every benchmark text that the page quotes, longest n first."""
    segments: list[int]
    """For each of `hits`, the number of segments that quote that text."""
    removed: int
    """Number of segments with any match."""
    total: int
    """Number of segments of the page."""
    text: str
    """The page without the quoting segments."""


def quotation_in(text: str, index: BenchmarkIndex, longest_segment: int) -> Quotation | None:
    """Compare a page with the benchmarks; None when it quotes none.

    A quotation that crosses the end of a segment belongs to both segments.
    """
    if not index.find(words(text)):
        return None
    segments = split_segments(text, longest_segment)
    tokens = [words(segment) for segment in segments]
    ends = np.cumsum([len(part) for part in tokens])
    first: dict[int, Hit] = {}
    quoted: dict[int, set[int]] = defaultdict(set)
    for hit in index.find([word for part in tokens for word in part]):
        begin, end = np.searchsorted(ends, [hit.start, hit.start + hit.n - 1], side="right").tolist()
        first.setdefault(id(hit.text), hit)
        quoted[id(hit.text)].update(part for part in range(begin, end + 1) if tokens[part])
    removed = set().union(*quoted.values())
    return Quotation(
        list(first.values()), [len(quoted[text]) for text in first], len(removed), len(segments), join_without(segments, removed)
    )


@dataclass(frozen=True)
class Contamination:
    """The result of comparing a crawl with the benchmarks."""

    remove: str
    pages: dict[int, dict[str, Any]]
    """By capture: segments, dropped (the reason, or an empty string), tokens, tokens_left, quotes."""

    def __or__(self, other: Contamination) -> Contamination:
        """Merge the results of two comparisons."""
        return Contamination(self.remove, self.pages | other.pages)

    @property
    def dropped(self) -> dict[int, str]:
        """The reason for every page that is dropped whole, by capture."""
        return {capture: found["dropped"] for capture, found in sorted(self.pages.items()) if found["dropped"]}

    @property
    def tokens_cut(self) -> int:
        """Estimated tokens of the segments removed from pages that stay."""
        return sum(found["tokens"] - found["tokens_left"] for found in self.pages.values() if not found["dropped"])

    def counts(self) -> list[dict[str, int | str]]:
        """Quoting pages and segments, by benchmark and n; a page that quotes two benchmarks counts for both."""
        pages: dict[tuple[str, int], set[int]] = defaultdict(set)
        segments: dict[tuple[str, int], int] = defaultdict(int)
        for page, found in self.pages.items():
            for quote in found["quotes"]:
                pages[quote["benchmark"], quote["n"]].add(page)
                segments[quote["benchmark"], quote["n"]] += quote["segments"]
        return [{"benchmark": name, "n": n, "pages": len(pages[name, n]), "segments": segments[name, n]} for name, n in sorted(pages)]

    def totals(self) -> dict[str, int | str]:
        """Totals: quoting pages, their quoting segments, pages dropped, estimated tokens removed."""
        found = self.pages.values()
        return {
            "remove": self.remove,
            "pages_hit": len(found),
            "segments_hit": sum(page["segments"] for page in found),
            "pages_dropped": sum(bool(page["dropped"]) for page in found),
            "tokens_removed": self.tokens_cut + sum(page["tokens"] for page in found if page["dropped"]),
        }

    def write(self, urls: Mapping[int, str], path: Path) -> None:
        """Write `contamination.parquet`, see `QUOTES_SCHEMA`; `urls` names the captures."""
        rows = [
            {"url": urls[capture], "removed": "page" if found["dropped"] else "segment", **quote}
            for capture, found in sorted(self.pages.items())
            for quote in found["quotes"]
        ]
        with atomic_path(path) as temporary:
            pq.write_table(pa.Table.from_pylist(rows, schema=QUOTES_SCHEMA), temporary, compression="zstd")


def decontaminate(
    pages: Pages, alive: Mask, problems: Path, config: DecontaminationConfig, min_characters: int, folder: Path, pool: WorkerPool
) -> tuple[Contamination, list[Path]]:
    """Compare the pages of `alive` with the held-out problems and the benchmarks of a problems artifact.

    Returns what was found, and the pages' shards, or their copies without the removed segments. Finished shards are kept in
    `folder` and reused after a kill.
    """
    results = [folder / f"{number:06d}.parquet" for number in range(len(pages.shards))]
    jobs = [
        (shard, pages.rows_of(number, alive), problems, config, min_characters, result)
        for number, (shard, result) in enumerate(zip(pages.shards, results, strict=True))
        if not result.exists()
    ]
    pool.run("compare with benchmarks", "shard", scan_shard, jobs)
    found: dict[int, dict[str, Any]] = {}
    for first, result in zip(pages.first[:-1].tolist(), results, strict=True):
        for hit in pq.read_table(result).to_pylist():
            found[int(pages.capture[first + hit.pop("row")])] = hit
    cleaned = [_cleaned(result) for result in results]
    shards = [copy if copy.exists() else shard for copy, shard in zip(cleaned, pages.shards, strict=True)]
    return Contamination(config.remove, found), shards


def scan_shard(shard: Path, rows: Mask, problems: Path, config: DecontaminationConfig, min_characters: int, result: Path) -> None:
    """Write the quotations in one shard's pages, and with `remove = "segment"` the shard's copy without them."""
    index = _load_index(problems, config)
    numbers = iter(np.flatnonzero(rows).tolist())
    found: list[dict[str, Any]] = []
    remaining: dict[int, str] = {}
    for texts in iter_texts(shard, rows):
        for text in texts:
            row = next(numbers)
            quotation = quotation_in(text, index, config.longest_segment)
            if quotation is None:
                continue
            dropped = _why_dropped(quotation, config, min_characters)
            if not dropped:
                remaining[row] = quotation.text
            found.append({"row": row, "dropped": dropped, **_hit_row(quotation, text, "" if dropped else quotation.text)})
    if remaining:
        _copy_shard(shard, remaining, _cleaned(result))
    with atomic_path(result) as temporary:
        pq.write_table(pa.Table.from_pylist(found, schema=_HIT_SCHEMA), temporary)


def _why_dropped(quotation: Quotation, config: DecontaminationConfig, min_characters: int) -> str:
    detail = quotation.hits[0].detail
    if config.remove == "page":
        return detail
    if len(quotation.text) < max(1, min_characters):
        gone = f"without {quotation.removed} of {quotation.total} segments {len(quotation.text)} characters are left"
        return f"{detail}; {gone}, fewer than {min_characters}"
    return ""


def _hit_row(quotation: Quotation, before: str, after: str) -> dict[str, Any]:
    return {
        "segments": quotation.removed,
        "tokens": token_estimate(len(before.encode())),
        "tokens_left": token_estimate(len(after.encode())),
        "quotes": [
            {
                "benchmark": hit.text.source,
                "problem": hit.text.problem,
                "part": hit.text.part,
                "n": hit.n,
                "segments": parts,
                "quote": hit.quote,
            }
            for hit, parts in zip(quotation.hits, quotation.segments, strict=True)
        ],
    }


def _cleaned(result: Path) -> Path:
    return result.with_suffix(".pages.parquet")


def _copy_shard(shard: Path, texts: dict[int, str], target: Path) -> None:
    """Copy a shard with other texts for some of its kept pages, in bounded memory."""
    kept = 0
    file = pq.ParquetFile(shard)
    with atomic_path(target) as temporary, pq.ParquetWriter(temporary, file.schema_arrow, compression="zstd") as writer:
        for batch in file.iter_batches(batch_size=512):
            rows = batch.to_pylist()
            for row in rows:
                if row["reason"]:
                    continue
                if (text := texts.get(kept)) is not None:
                    size = len(text.encode())
                    row |= {"text": text, "bytes": size, "tokens": token_estimate(size)}
                kept += 1
            writer.write_table(pa.Table.from_pylist(rows, schema=file.schema_arrow))


@lru_cache(maxsize=1)
def _load_index(problems: Path, config: DecontaminationConfig) -> BenchmarkIndex:
    return BenchmarkIndex(benchmark_texts(read_benchmarks(problems), config), config)
