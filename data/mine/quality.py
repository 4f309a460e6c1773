"""How well mining did on a crawl with known answers. Mining itself never reads them."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from data.errors import MathQuarryError

_DUPLICATES = {"url-duplicate", "exact-duplicate", "near-duplicate"}


@dataclass(frozen=True)
class TruthRow:
    """One planted page of `truth.jsonl`."""

    url: str
    label: str
    """`math` for mathematics, anything else for other pages."""
    planted: str = ""
    """`contaminated`, `near-duplicate`, `url-duplicate`, or empty for an ordinary page."""
    of: str = ""
    """For duplicates the URL of the page they repeat."""


def read_truth(path: Path) -> list[TruthRow]:
    """Read `truth.jsonl`; other fields are ignored. Raises `MathQuarryError` naming file and line for a bad record."""
    rows = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                record = json.loads(line)
                rows.append(TruthRow(record["url"], record["label"], record.get("planted") or "", record.get("of") or ""))
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise MathQuarryError(f"{path}, line {number} is no truth record (url, label, planted, of): {error!r}.") from None
    return rows


def measure(truth: Path, corpus: Path, dropped: Path) -> dict[str, int | float]:
    """Compare a mined corpus with the truth.

    For each kind of planted page: how many were planted (`planted_*`) and how many mining removed for that reason
    (`removed_*`). A duplicate is removed when it or the page it repeats was dropped as a duplicate; a contaminated
    page when it was dropped as contaminated or as a duplicate. `contaminated_in_corpus` must be 0;
    `removed_unplanted_contaminated` counts pages that were dropped as contaminated and not planted as such.

    `math_precision`: share of the corpus that is mathematics. `math_recall`: share of the mathematical pages that
    were collected, of those that are neither planted nor removed as duplicate or contaminated.
    """
    rows = read_truth(truth)
    kept = set(pq.read_table(corpus, columns=["url"])["url"].to_pylist())
    reasons: dict[str, set[str]] = defaultdict(set)
    for record in pq.read_table(dropped, columns=["url", "reason"]).to_pylist():
        reasons[record["url"]].add(record["reason"])

    def duplicate(url: str) -> bool:
        return bool(reasons[url] & _DUPLICATES)

    contaminated = [row for row in rows if row.planted == "contaminated"]
    planted = {row.url for row in contaminated}
    found: dict[str, int | float] = {
        "planted_contaminated": len(contaminated),
        "removed_contaminated": sum("contaminated" in reasons[row.url] or duplicate(row.url) for row in contaminated),
        "contaminated_in_corpus": sum(row.url in kept for row in contaminated),
        "removed_unplanted_contaminated": sum("contaminated" in why and url not in planted for url, why in reasons.items()),
    }
    for kind in ("near-duplicate", "url-duplicate"):
        copies = [row for row in rows if row.planted == kind]
        name = kind.replace("-", "_") + "s"
        found[f"planted_{name}"] = len(copies)
        found[f"removed_{name}"] = sum(duplicate(row.url) or duplicate(row.of) for row in copies)
    label = {row.url: row.label for row in rows}
    reachable = [
        row.url
        for row in rows
        if row.label == "math" and not row.planted and not duplicate(row.url) and "contaminated" not in reasons[row.url]
    ]
    found["math_precision"] = sum(label.get(url) == "math" for url in kept) / max(1, len(kept))
    found["math_recall"] = sum(url in kept for url in reachable) / max(1, len(reachable))
    return found
