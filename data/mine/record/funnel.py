"""Counts the captures and tokens that remain after each step of mining: the funnel that ends in the corpus."""

from __future__ import annotations

import numpy as np

from mathquarry.data.mine.library.duplicates import removed_captures
from mathquarry.data.mine.library.library import Library
from mathquarry.data.mine.pages.tables import connect, parquet
from mathquarry.data.mine.record.round import SelectionRecord

Step = dict[str, int | str | None]


def funnel(library: Library, last: SelectionRecord, dropped: int) -> list[Step]:
    """Captures (`pages`) and estimated tokens that remain after each step; `dropped` counts the records that are not in the corpus."""
    steps: list[Step] = [{"step": "captured", "pages": dropped + last.pages, "tokens": None}]
    with connect(library.config.workers, library.scratch / "spill", library.config.workers.count) as connection:
        count = f"select count(*), coalesce(sum(tokens), 0) from {parquet(library.captured)} where reason = ''"
        pages, tokens = connection.execute(count).fetchall()[0]
        steps.append({"step": "extracted", "pages": pages, "tokens": int(tokens)})
        for reason, files in library.duplicates.items():
            lost = f"{count} and capture in (select capture from {parquet(files)})"
            fewer, lighter = connection.execute(lost).fetchall()[0]
            pages, tokens = pages - fewer, tokens - lighter
            steps.append({"step": f"without {reason}s", "pages": pages, "tokens": int(tokens)})
    if library.config.recall.enabled:
        pages = library.pages
        steps.append(_step("let through by a first pass", library, np.ones(len(pages), dtype=bool)))
        steps.append(_step("without repeated careful texts", library, ~pages.among(removed_captures(library.repeated))))
    steps.append(_step("not contaminated", library, library.pool))
    return [*steps, {"step": "collected", "pages": last.pages, "tokens": last.tokens}]


def _step(name: str, library: Library, pages: np.ndarray) -> Step:
    return {"step": name, "pages": int(pages.sum()), "tokens": int(library.pages.tokens[pages].sum(dtype=np.int64))}
