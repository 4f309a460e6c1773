"""One round of the loop and its checkpoint: train on the seed, score every page, keep the best, classify domains, enlarge the seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mathquarry.data.crawl.annotations import Annotations, verdict_rows
from mathquarry.data.files import atomic_path, file_digest, read_json, write_json
from mathquarry.data.mine.classify.recall import Recall
from mathquarry.data.mine.classify.scoring import load_classifier, score_pages, train_classifier
from mathquarry.data.mine.classify.seed import HeldOut, Seed
from mathquarry.data.mine.classify.separation import Separation, demand, separation
from mathquarry.data.mine.config import MineConfig
from mathquarry.data.mine.domains.census import census
from mathquarry.data.mine.domains.review import Decision, ReviewNeeded, all_verdicts, table_rows
from mathquarry.data.mine.domains.table import Domain, accept_unattended, domain_table
from mathquarry.data.mine.library.library import Library
from mathquarry.data.mine.pages.shards import Captures
from mathquarry.data.mine.record import facts
from mathquarry.data.mine.record.histogram import histogram
from mathquarry.data.mine.record.round import (
    ClassifierRecord,
    DomainRecord,
    LibraryRecord,
    Record,
    Round,
    SeedRecord,
    SelectionRecord,
    TokenRecord,
)
from mathquarry.data.mine.record.warnings import seed_warnings, separation_warnings, threshold_warnings
from mathquarry.data.mine.selection import Selection, select


@dataclass(frozen=True)
class ReviewedDomains:
    """The domain table with the paths that were accepted, and the uncollected captures below them (sorted)."""

    table: list[Domain]
    accepted: dict[str, list[str]]
    uncollected: Captures
    rejected: dict[str, list[str]]
    """Paths that a person rejected."""
    reviewed_by: str
    """See `DomainRecord`."""


def review_domains(
    library: Library, collected: Captures, scores: NDArray[np.float32], decisions: Mapping[int, Decision] = MappingProxyType({})
) -> ReviewedDomains:
    """Make the domain table and accept paths: by the annotation file, or by a person's decisions, then `config.path_share`."""
    with census(library, collected, scores) as captures:
        return review_captures(captures, library.config, decisions)


def review_captures(
    captures: duckdb.DuckDBPyConnection, config: MineConfig, decisions: Mapping[int, Decision] = MappingProxyType({})
) -> ReviewedDomains:
    """`review_domains` on a view `captures` as `census.py` describes it."""
    table = domain_table(captures, config)
    if config.annotations:
        annotations, by_share, reviewed_by = Annotations.read(Path(config.annotations)), False, "annotations"
    else:
        annotations, by_share = all_verdicts(decisions)
        reviewed_by = "path_share" if by_share and not annotations.table().num_rows else "person"
    proposed = {domain.host: accept_unattended(domain, config.path_share) for domain in table if domain.mathematical and by_share}
    accepted = annotations.paths("accept")
    for host, prefixes in proposed.items():
        unjudged = [prefix for prefix in prefixes if annotations.accepts(host, prefix) is None]
        accepted[host] = sorted({*accepted.get(host, []), *unjudged})
    by_threshold = verdict_rows(((host, prefix, True) for host, prefixes in proposed.items() for prefix in prefixes), annotated=False)
    captures.register("verdicts", pa.concat_tables([annotations.table(), by_threshold]))
    # A stem covers the path itself and everything below it, by whole segments. If several match, a person's wins, then the one
    # with the most letters besides `*`.
    under = captures.execute(
        """
        select capture from captures join verdicts using (host)
        where not collected and (path = stem or starts_with(path, stem || '/') or regexp_full_match(path, pattern))
        group by capture having arg_max(accepted, (annotated, len(replace(stem, '*', '')), stem)) order by capture
        """
    ).fetchnumpy()
    uncollected = np.asarray(under["capture"], dtype=np.int64)
    found = {host: prefixes for host, prefixes in sorted(accepted.items()) if prefixes}
    return ReviewedDomains(table, found, uncollected, annotations.paths("reject"), reviewed_by)


def run_round(
    number: int,
    library: Library,
    seed: Seed,
    recalled: Recall | None,
    before: Captures | None,
    folder: Path,
    decisions: Mapping[int, Decision] = MappingProxyType({}),
) -> Round:
    """Do round `number` (from 1) and write its checkpoint in `folder`; the record is written last.

    Raises `ReviewNeeded` if a person reviews the domains (`config.review`), another round would follow, and `decisions` has none for
    this one. The scores are kept, so that the round can continue from there. Raises `MathQuarryError` when the classifier does not
    separate held-out positives from held-out negatives.
    """
    config, pages = library.config, library.pages
    positives, negatives = seed.counts
    model, scored = folder / "classifier.bin", folder / "scores.npy"
    measured = folder / "separation.json"
    if not scored.exists():
        held_out = seed.hold_out(config.separation, config.seed)
        train_classifier(seed.examples(library, held_out), positives + negatives - sum(held_out.counts), config, folder, model)
        found = _separation(library, seed, held_out, model)
        write_json(measured, asdict(found))
        demand(found, number, seed.counts, config)
        with atomic_path(scored) as temporary, temporary.open("wb") as file:
            np.save(file, score_pages(pages, library.pool, model, library.workers))
    scores, separated = np.load(scored), Separation(**read_json(measured))
    budget = config.token_budgets[min(number, len(config.token_budgets)) - 1]
    chosen, counted = _choose(library, scores, budget)
    collected = np.sort(pages.capture[chosen.mask])
    known = chosen.mask & pages.among(before) if before is not None else None
    overlap = None if known is None else int(pages.tokens[known].sum(dtype=np.int64)) / chosen.tokens
    reviewed = review_domains(library, collected, scores, {key: decision for key, decision in decisions.items() if key <= number})
    ends = number == config.max_rounds or (overlap is not None and overlap >= config.stop_overlap)
    if config.review and not ends and number not in decisions:
        raise ReviewNeeded(number, table_rows(reviewed.table, config.path_share))
    added = np.setdiff1d(reviewed.uncollected, seed.positives)
    heap = library.pool & (scores == np.float32(chosen.threshold))
    heap_pages, heap_left = int(heap.sum()), int((heap & ~chosen.mask).sum())
    record = Record(
        round=number,
        seed=SeedRecord(positives, negatives, seed.limit, facts.seed_digest(seed)),
        classifier=ClassifierRecord(
            classifier_sha256=file_digest(model),
            separation=asdict(separated),
            recall_threshold=recalled.threshold if recalled else None,
            recall_captures=recalled.passed if recalled else None,
            recall_separation=asdict(recalled.separation) if recalled else None,
            scores=histogram(scores[library.pool]),
            labelled=facts.ranking(library, scores, facts.read_labels(Path(config.labelled))) if config.labelled else None,
        ),
        selection=SelectionRecord(
            pages=len(collected),
            tokens=chosen.tokens,
            budget=budget,
            threshold=chosen.threshold,
            overlap=overlap,
            threshold_pages=heap_pages,
            threshold_left=heap_left,
        ),
        counted=TokenRecord(Path(config.tokenizer).name if config.tokenizer else None, *(counted or (None, None))),
        domains=DomainRecord(
            domains=len(reviewed.table),
            mathematical_domains=[domain.host for domain in reviewed.table if domain.mathematical],
            accepted_paths=[host + prefix for host, prefixes in reviewed.accepted.items() for prefix in prefixes],
            pages_added=len(added),
            rejected_paths=[host + prefix for host, prefixes in reviewed.rejected.items() for prefix in prefixes],
            reviewed_by=reviewed.reviewed_by,
        ),
        library=LibraryRecord(facts.duplicates_by_kind(library), library.contamination.counts()),
        warnings=[
            *seed_warnings(seed, config),
            *separation_warnings(separated, recalled, config),
            *threshold_warnings(chosen.threshold, heap_pages, heap_left, len(collected)),
        ],
    )
    with atomic_path(folder / "pages.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, scores=scores, collected=collected, added=added)
    write_json(folder / "record.json", record.row())
    return Round(record, scores, collected, added, model)


def _separation(library: Library, seed: Seed, held_out: HeldOut, model: Path) -> Separation:
    examples = list(seed.held_out_examples(library, held_out))
    positive = np.asarray([label for _, label in examples], dtype=bool)
    scores = load_classifier(model, model.stat().st_mtime_ns).score([text for text, _ in examples])
    return separation(scores, positive, library.config.separation.least_pages)


def _choose(library: Library, scores: NDArray[np.float32], budget: int) -> tuple[Selection, tuple[int, int] | None]:
    """Select pages for the budget. With a tokenizer, a first selection shows the estimate's error, and a second corrects for it."""
    pages, config = library.pages, library.config
    chosen = select(scores, pages.tokens, library.pool, pages.key, budget)
    counted = facts.count_tokens(library, chosen.mask, config)
    if counted:
        chosen = select(scores, pages.tokens, library.pool, pages.key, round(budget * chosen.tokens / max(1, counted[0])))
        counted = facts.count_tokens(library, chosen.mask, config)
    return chosen, counted


def load_round(folder: Path) -> Round | None:
    """A finished round from its checkpoint; None when the round did not finish."""
    if not (folder / "record.json").exists():
        return None
    with np.load(folder / "pages.npz") as arrays:
        return Round(
            Record.of_row(read_json(folder / "record.json")),
            arrays["scores"],
            arrays["collected"],
            arrays["added"],
            folder / "classifier.bin",
        )
