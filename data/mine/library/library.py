"""The library of a mining run: the captures of the crawl, and the pages among them that were extracted carefully.

Captures are the result of the first pass, without duplicates. The library of pages grows by second passes over picked
captures, and each new page is compared with the benchmarks. Without a recall pass, every capture is a page from the start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.mine.config import MineConfig
from mathquarry.data.mine.library.decontaminate import Contamination, decontaminate
from mathquarry.data.mine.library.duplicates import find_duplicates, removed_captures
from mathquarry.data.mine.pages.pool import WorkerPool
from mathquarry.data.mine.pages.shards import Captures, Mask, Pages, WarcFile, capture_crawl, capture_rows, capture_shards, extract_picks

_STEP = 0x9E3779B97F4A7C15
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


class Library:
    """Captures, pages, and findings about them. Create one with `read_crawl`."""

    def __init__(
        self,
        files: list[WarcFile],
        captured: list[Path],
        duplicates: dict[str, list[Path]],
        problems: Path,
        config: MineConfig,
        scratch: Path,
        workers: WorkerPool,
    ) -> None:
        self.files = files
        self.captured = captured
        """Shards of the first pass, one per WARC file."""
        self.duplicates = duplicates
        """By step of duplicate removal, files of (capture, keep)."""
        self.config, self.scratch, self.workers = config, scratch, workers
        self.removed = removed_captures(duplicates)
        """Captures that duplicate removal dropped, sorted."""
        self.repeated: dict[str, list[Path]] = {}
        """The same for the pages' careful texts, if captures have plain ones: different plain texts may have equal careful texts."""
        self.contamination = Contamination(config.decontamination.remove, {})
        """The pages' quotations of benchmarks."""
        self._problems = problems
        self._shards: list[Path] = []
        self.pages = Pages.load([])
        """The pages extracted so far."""
        self.pool: Mask = np.zeros(0, dtype=bool)
        """The pages that may be collected: neither duplicates nor quoting a benchmark."""
        if not config.recall.enabled:
            self._add(captured, "all")

    def index(self, number: int, columns: list[str]) -> dict[str, NDArray]:
        """Columns of one shard's captures, as arrays."""
        table = pq.read_table(self.captured[number], columns=columns, filters=[("reason", "==", "")])
        return {name: table[name].to_numpy(zero_copy_only=False) for name in columns}

    def unique(self, captures: Captures) -> Mask:
        """Which of `captures` duplicate removal kept."""
        return np.isin(captures, self.removed, invert=True)

    def urls(self, captures: Iterable[int]) -> dict[int, str]:
        """The addresses of some captures."""
        named: dict[int, str] = {}
        wanted = np.fromiter(captures, dtype=np.int64)
        for number in np.unique(capture_shards(wanted)).tolist():
            here = wanted[capture_shards(wanted) == number]
            urls = self.index(number, ["url"])["url"][capture_rows(here)]
            named |= dict(zip(here.tolist(), urls.tolist(), strict=True))
        return named

    def grow(self, picks: Captures, name: str) -> None:
        """Carefully extract the captures in `picks` that are not yet extracted; `name` names this second pass in the scratch folder.

        After a kill, the same calls in the same order reuse all finished work. Captures whose careful extraction fails are
        dropped with their reason and not tried again.
        """
        if not self.config.recall.enabled:
            return
        known = [pq.read_table(shard, columns=["capture"])["capture"].to_numpy() for shard in self._shards]
        new = np.setdiff1d(picks, np.concatenate([np.empty(0, dtype=np.int64), *known]))
        owners = capture_shards(new)
        numbers = np.unique(owners).tolist()
        targets = [self.scratch / "pages" / name / f"{number:06d}.parquet" for number in numbers]
        jobs = [
            (self.files[number], self.captured[number], new[owners == number], target, self.config)
            for number, target in zip(numbers, targets, strict=True)
            if not target.exists()
        ]
        self.workers.run("extract pages", "WARC", extract_picks, jobs)
        if targets:
            self._add(targets, name)

    def _add(self, shards: list[Path], name: str) -> None:
        """Add pages. Those that repeat another page's careful text or quote a benchmark stay out of the pool."""
        self._shards += shards
        if self.config.recall.enabled:
            folder = self.scratch / "repeated" / name
            self.repeated = find_duplicates(self._shards, self.config, self.scratch / "pages" / "keys", folder, self.workers)
        gone = np.concatenate([self.removed, removed_captures(self.repeated)])
        added = Pages.load(shards)
        found, cleaned = decontaminate(
            added,
            ~added.among(gone),
            self._problems,
            self.config.decontamination,
            self.config.min_characters,
            self.scratch / "benchmarks" / name,
            self.workers,
        )
        self.contamination |= found
        self.pages = Pages.load([*self.pages.shards, *cleaned])
        quoting = np.fromiter(self.contamination.dropped, dtype=np.int64)
        self.pool = ~self.pages.among(np.concatenate([gone, quoting]))


def read_crawl(files: list[WarcFile], problems: Path, config: MineConfig, scratch: Path, workers: WorkerPool) -> Library:
    """The first pass over a crawl, without duplicates. Finished work in `scratch` is reused.

    Raises `MathQuarryError` when no page of the crawl has text.
    """
    captured = capture_crawl(files, scratch / "captures", config, workers)
    reasons: Counter[str] = Counter()
    for shard in captured:
        reasons.update(pq.read_table(shard, columns=["reason"])["reason"].to_pylist())
    if not reasons.pop("", 0):
        rows = (row for shard in captured for row in pq.read_table(shard, columns=["reason", "detail"]).to_pylist())
        first = next((row["detail"] for row in rows if row["reason"] in ("no-warc", "broken-warc")), "")
        why = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common()) or "the files hold no pages"
        raise MathQuarryError(
            f"no page of the crawl has text to mine ({why}{'; ' + first if first else ''}). "
            "Check that the crawl's WARC files hold HTML responses, and min_characters and max_page_bytes of the mine section."
        )
    duplicates = find_duplicates(captured, config, scratch / "captures" / "keys", scratch / "duplicates", workers)
    return Library(files, captured, duplicates, problems, config, scratch, workers)


def draws(keys: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """A random number for each page that depends only on its key and the seed. The pages with the smallest numbers form a sample."""
    mixed = keys + np.uint64(_STEP * (seed + 1) % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX[0]
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX[1]
    return mixed ^ (mixed >> np.uint64(31))
