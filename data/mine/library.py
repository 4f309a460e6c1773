"""What a mining run has to choose from: the captures of the crawl, and the pages among them that were extracted carefully.

Captures are what the first pass saw, without duplicates. The library of pages grows by second passes over picked
captures; each new page is compared with the benchmarks. Without a recall pass every capture is a page from the start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data.config import MineConfig
from data.errors import MathQuarryError
from data.mine.decontaminate import Contamination, decontaminate
from data.mine.duplicates import find_duplicates, removed_captures
from data.mine.pool import WorkerPool
from data.mine.shards import Captures, Mask, Pages, WarcFile, capture_crawl, capture_rows, capture_shards, extract_picks

_STEP = 0x9E3779B97F4A7C15
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


class Library:
    """Captures, pages, and what was found out about them. Make one with `read_crawl`."""

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
        """Shards of the first pass, one a WARC file."""
        self.duplicates = duplicates
        """By step of duplicate removal, files of (capture, keep)."""
        self.config, self.scratch, self.workers = config, scratch, workers
        self.removed = removed_captures(duplicates)
        """Captures that duplicate removal dropped, sorted."""
        self.repeated: dict[str, list[Path]] = {}
        """The same for the careful texts of the pages, where captures have plain ones: unlike texts may turn out alike."""
        self.contamination = Contamination(config.decontamination.remove, {})
        """What the pages quote of the benchmarks."""
        self._problems = problems
        self._shards: list[Path] = []
        self.pages = Pages.load([])
        """The pages extracted so far."""
        self.pool: Mask = np.zeros(0, dtype=bool)
        """The pages that may be collected: no duplicates, no benchmark text."""
        if not config.recall.enabled:
            self._add(captured, "all")

    def index(self, number: int, columns: list[str]) -> dict[str, NDArray]:
        """Columns of one shard's captures, as arrays."""
        table = pq.read_table(self.captured[number], columns=columns, filters=[("reason", "==", "")])
        return {name: table[name].to_numpy(zero_copy_only=False) for name in columns}

    def unique(self, captures: Captures) -> Mask:
        """Which of `captures` duplicate removal left."""
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
        """Extract the captures `picks` carefully, those that were not before; `name` names this second pass in the scratch folder.

        The same calls in the same order find everything again after a kill. Captures whose careful extraction fails
        are dropped with their reason and not tried again.
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
        """Take pages in: those that repeat another page's careful text or quote a benchmark stay outside the pool."""
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
    """The first pass over a crawl, without duplicates. Whatever is finished in `scratch` is found again.

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
    """A random number for each page that depends on its key and the seed alone: the least ones are a sample of any set of pages."""
    mixed = keys + np.uint64(_STEP * (seed + 1) % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX[0]
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX[1]
    return mixed ^ (mixed >> np.uint64(31))
