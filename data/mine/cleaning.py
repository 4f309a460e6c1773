"""What leaves the pool before mining: duplicates (URL, text, near), then pages that quote a benchmark. Every page that goes has a reason.

The paper removes duplicates from Common Crawl first and decontaminates the collected corpus. Here decontamination
comes before selection too, so benchmark text trains no classifier either, and a round's budget counts only pages that
stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data.config import MineConfig
from data.files import atomic_path
from data.mine.decontaminate import Contamination, decontaminate
from data.mine.dedup import find_near_duplicates, find_repeated
from data.mine.pool import WorkerPool
from data.mine.shards import Mask, Pages

STEPS = ("url-duplicate", "exact-duplicate", "near-duplicate", "contaminated")

_SCHEMA = pa.schema([("page", pa.int64()), ("reason", pa.string()), ("detail", pa.string())])


@dataclass(frozen=True)
class Cleaning:
    """Pages that were removed: columns page, reason and detail. And what quotes the benchmarks."""

    removed: pa.Table
    contamination: Contamination

    def pool(self, pages: Pages) -> Mask:
        """The pages that remain."""
        alive = np.ones(len(pages), dtype=bool)
        alive[self.removed["page"].to_numpy()] = False
        return alive

    def funnel(self, pages: Pages) -> list[dict[str, int | str]]:
        """Pages and estimated tokens that remain after each step."""
        alive = np.ones(len(pages), dtype=bool)
        steps: list[dict[str, int | str]] = []
        position, reason = self.removed["page"].to_numpy(), np.asarray(self.removed["reason"].to_pylist(), dtype=object)
        for step in ("extracted", *STEPS):
            alive[position[reason == step]] = False
            name = step if step == "extracted" else f"without {step}s" if step.endswith("duplicate") else f"not {step}"
            before = 0 if step == "contaminated" else self.contamination.tokens_cut
            steps.append({"step": name, "pages": int(alive.sum()), "tokens": before + int(pages.tokens[alive].sum(dtype=np.int64))})
        return steps


def clean(pages: Pages, problems: Path, config: MineConfig, folder: Path, pool: WorkerPool) -> tuple[Pages, Cleaning]:
    """Find what to remove. The duplicates are kept in `folder` and found again after a kill, and so is each shard compared with benchmarks.

    Returns the pages with the text that is left of them, and what was removed.
    """
    duplicates = _duplicates(pages, config, folder / "duplicates.parquet")
    alive = np.ones(len(pages), dtype=bool)
    alive[duplicates["page"].to_numpy()] = False
    found = decontaminate(pages, alive, problems, config.decontamination, config.min_characters, folder / "benchmarks", pool)
    rows = [{"page": page, "reason": "contaminated", "detail": detail} for page, detail in found.dropped]
    removed = pa.concat_tables([duplicates, pa.Table.from_pylist(rows, schema=_SCHEMA)])
    return found.apply(pages), Cleaning(removed, found)


def _duplicates(pages: Pages, config: MineConfig, result: Path) -> pa.Table:
    if result.exists():
        return pq.read_table(result)
    alive = np.ones(len(pages), dtype=bool)
    rows: list[dict] = []

    def drop(pairs: list[tuple[int, int]], reason: str) -> None:
        for page, keep in pairs:
            alive[page] = False
            rows.append({"page": page, "reason": reason, "detail": f"repeats {pages.url[keep]}"})

    def remaining() -> NDArray[np.int64]:
        return np.flatnonzero(alive)

    drop(find_repeated(pages.canonical_url, remaining()), "url-duplicate")
    drop(find_repeated(pages.digest, remaining(), order=pages.canonical_url), "exact-duplicate")
    signatures = pages.signatures()[alive]
    drop(find_near_duplicates(signatures, remaining(), pages.canonical_url, config.dedup), "near-duplicate")
    table = pa.Table.from_pylist(rows, schema=_SCHEMA)
    with atomic_path(result) as temporary:
        pq.write_table(table, temporary)
    return table
