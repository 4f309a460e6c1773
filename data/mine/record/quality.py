"""How well mining did on a crawl with known answers. Mining itself never reads them."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from mathquarry.data.errors import MathQuarryError

_DUPLICATES = {"url-duplicate", "exact-duplicate", "near-duplicate"}
_MATHEMATICAL = {"math", "math_plain"}


@dataclass(frozen=True)
class TruthRow:
    """The fields of one capture in `truth.jsonl` that are needed here."""

    url: str
    label: str
    """`math`, `math_plain` (mathematics without formulas) or `other`."""
    duplicate_of: str | None
    """URL of the page that this one repeats with small edits."""
    url_duplicate_of: str | None
    """The URL that this one is another spelling of."""
    contaminated_by: str | None
    """The held-out problem that the page quotes."""

    @property
    def planted(self) -> bool:
        """Whether cleaning should remove the page, or the one it repeats."""
        return bool(self.duplicate_of or self.url_duplicate_of or self.contaminated_by)


def read_truth(path: Path) -> list[TruthRow]:
    """Read `truth.jsonl`. Raises `MathQuarryError` naming file and line for a bad record."""
    rows = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                record = json.loads(line)
                rows.append(TruthRow(**{name: record[name] for name in TruthRow.__dataclass_fields__}))
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                fields = ", ".join(TruthRow.__dataclass_fields__)
                raise MathQuarryError(f"{path}, line {number} is not a truth record ({fields}): {error!r}. Make the crawl again.") from None
    return rows


def measure(truth: Path, corpus: Path, dropped: Path) -> dict[str, int | float]:
    """Compare a mined corpus with the truth.

    For each kind of planted page: how many were planted (`planted_*`) and how many mining removed for that reason
    (`removed_*`). A duplicate is removed when it or the page it repeats was dropped as a duplicate; a contaminated page
    when it was dropped as contaminated or as a duplicate. `contaminated_in_corpus` must be 0;
    `removed_unplanted_contaminated` counts pages dropped as contaminated that were not planted: problems made from a
    held-out problem's template, and copies of contaminated pages.

    `math_precision`: share of the corpus that is mathematics. `math_recall`: share of the mathematical pages that were
    collected, of those neither planted nor removed as duplicate or contaminated.
    """
    rows = read_truth(truth)
    kept = set(pq.read_table(corpus, columns=["url"])["url"].to_pylist())
    reasons: dict[str | None, set[str]] = defaultdict(set)
    for record in pq.read_table(dropped, columns=["url", "reason"]).to_pylist():
        reasons[record["url"]].add(record["reason"])

    def duplicate(url: str | None) -> bool:
        return bool(reasons[url] & _DUPLICATES)

    contaminated = [row.url for row in rows if row.contaminated_by]
    near = [row for row in rows if row.duplicate_of]
    repeated = [row for row in rows if row.url_duplicate_of]
    mathematical = {row.url for row in rows if row.label in _MATHEMATICAL}
    reachable = [
        row.url
        for row in rows
        if row.url in mathematical and not row.planted and not duplicate(row.url) and "contaminated" not in reasons[row.url]
    ]
    return {
        "planted_contaminated": len(contaminated),
        "removed_contaminated": sum("contaminated" in reasons[url] or duplicate(url) for url in contaminated),
        "contaminated_in_corpus": len(kept.intersection(contaminated)),
        "removed_unplanted_contaminated": sum("contaminated" in why and url not in set(contaminated) for url, why in reasons.items()),
        "planted_near_duplicates": len(near),
        "removed_near_duplicates": sum(duplicate(row.url) or duplicate(row.duplicate_of) for row in near),
        "planted_url_duplicates": len(repeated),
        "removed_url_duplicates": sum(duplicate(row.url) or duplicate(row.url_duplicate_of) for row in repeated),
        "math_precision": len(kept & mathematical) / max(1, len(kept)),
        "math_recall": len(kept.intersection(reachable)) / max(1, len(reachable)),
    }
