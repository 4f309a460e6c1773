"""The record of a mining round in `rounds.json`, and the arrays that the next round starts from."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mathquarry.data.mine.pages.shards import Captures

Group = TypeVar("Group", "SeedRecord", "ClassifierRecord", "SelectionRecord", "TokenRecord", "DomainRecord", "LibraryRecord")


@dataclass(frozen=True)
class SeedRecord:
    """The training data of the classifier."""

    seed_positives: int
    seed_negatives: int
    negatives_limit: str | None
    """The field of `seed_pages` that reduced the negatives below `seed_pages.negatives`; None if there are enough."""
    seed_sha256: str


@dataclass(frozen=True)
class ClassifierRecord:
    """The classifier, and how well it separates pages."""

    classifier_sha256: str
    separation: dict[str, Any]
    """AUC on held-out pages (None: not measured) and the number of pages by class; see `separation.py`."""
    recall_threshold: float | None
    """Threshold of the first pass; None without a separate first pass."""
    recall_captures: int | None
    """Captures that passed the first pass."""
    recall_separation: dict[str, Any] | None
    """Same as `separation`, for the first pass."""
    scores: list[int]
    """Pages of the pool by score, see `histogram.py`."""
    labelled: dict[str, Any] | None
    """Average precision and curve on the labelled pages (`facts.ranking`)."""


@dataclass(frozen=True)
class SelectionRecord:
    """The collected pages. Tokens are estimates."""

    pages: int
    tokens: int
    budget: int
    threshold: float
    overlap: float | None
    """Share of this round's tokens that the previous round had collected."""
    threshold_pages: int
    """Pages with exactly the threshold's score."""
    threshold_left: int
    """Those of them that were not collected: equal scores are ordered by the hash of the URL, which is independent of the page."""


@dataclass(frozen=True)
class TokenRecord:
    """The tokens of the collected pages, counted with a tokenizer."""

    tokenizer: str | None
    """Tokenizer for `tokens_counted`; None: only estimated, with four bytes per token."""
    tokens_counted: int | None
    tokens_error: int | None
    """Standard error of `tokens_counted`, which is based on a sample."""


@dataclass(frozen=True)
class DomainRecord:
    """The mathematical domains, and the accepted paths in them."""

    domains: int
    """Hosts with collected pages."""
    mathematical_domains: list[str]
    accepted_paths: list[str]
    pages_added: int
    """Uncollected pages under accepted paths, which become positives of the next round."""
    rejected_paths: list[str]
    """Paths rejected by the annotation file or a person."""
    reviewed_by: str
    """What decided about paths: `annotations` (a file), `person` (decisions between rounds) or `path_share` (also if a person accepts its
    proposal)."""


@dataclass(frozen=True)
class LibraryRecord:
    """What was dropped before scoring, in this and earlier rounds."""

    duplicates: dict[str, int]
    """Captures dropped as duplicates, by kind."""
    contamination: list[dict[str, int | str]]
    """Pages and segments that match a benchmark, by benchmark and n."""


@dataclass(frozen=True)
class Record:
    """The entry of a round in `rounds.json`: one object with the fields of all groups."""

    round: int
    seed: SeedRecord
    classifier: ClassifierRecord
    selection: SelectionRecord
    counted: TokenRecord
    domains: DomainRecord
    library: LibraryRecord
    warnings: list[str]
    """Warnings about this round, as sentences."""

    def row(self) -> dict[str, Any]:
        """Return the record as written to the file."""
        groups = (self.seed, self.classifier, self.selection, self.counted, self.domains, self.library)
        fields = {name: value for group in groups for name, value in asdict(group).items()}
        return {"round": self.round, **fields, "warnings": self.warnings}

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> Record:
        """Read a record from `row`."""
        return cls(
            row["round"],
            _group(SeedRecord, row),
            _group(ClassifierRecord, row),
            _group(SelectionRecord, row),
            _group(TokenRecord, row),
            _group(DomainRecord, row),
            _group(LibraryRecord, row),
            row["warnings"],
        )


def _group(kind: type[Group], row: dict[str, Any]) -> Group:
    return kind(**{field.name: row[field.name] for field in fields(kind)})


@dataclass(frozen=True)
class Round:
    """A finished round."""

    record: Record
    scores: NDArray[np.float32]
    """One score per page of the library in this round."""
    collected: Captures
    """Sorted."""
    added: Captures
    """Uncollected captures under accepted paths, sorted."""
    model: Path
