"""One round of the loop: train on the seed, score every page, keep the best, judge domains, enlarge the seed. And its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.config import MineConfig
from data.files import atomic_path, file_digest, read_json, write_json
from data.mine import facts
from data.mine.annotations import Annotations, verdict_rows
from data.mine.census import census
from data.mine.domains import Domain, accept_unattended, domain_table
from data.mine.histogram import histogram
from data.mine.library import Library
from data.mine.recall import Recall
from data.mine.review import Decision, ReviewNeeded, all_verdicts, table_rows
from data.mine.round_warnings import seed_warnings, separation_warnings, threshold_warnings
from data.mine.scoring import load_classifier, score_pages, train_classifier
from data.mine.seed import HeldOut, Seed
from data.mine.selection import Selection, select
from data.mine.separation import Separation, demand, separation
from data.mine.shards import Captures


@dataclass(frozen=True)
class Record:
    """What `rounds.json` says of a round. Tokens are estimates."""

    round: int
    pages: int
    tokens: int
    budget: int
    threshold: float
    overlap: float | None
    """Share of this round's tokens that the round before had collected."""
    seed_positives: int
    seed_negatives: int
    negatives_limit: str | None
    """The field of `seed_pages` that left fewer negatives than `seed_pages.negatives`; None where none did."""
    separation: dict[str, Any]
    """AUC on held-out pages (None: not measured) and the number of these, by class; see `separation.py`."""
    recall_threshold: float | None
    """Least first-pass score that was let through; None without a first pass of its own."""
    recall_captures: int | None
    """Captures that the first pass let through."""
    recall_separation: dict[str, Any] | None
    """The same as `separation`, of the first pass."""
    domains: int
    """Hosts of which something was collected."""
    mathematical_domains: list[str]
    accepted_paths: list[str]
    pages_added: int
    """Uncollected pages under accepted paths: they join the positives of the next round."""
    rejected_paths: list[str]
    """Paths that the annotation file or a person rejects."""
    judged_by: str
    """What accepted the paths: `annotations` (a file), `person` (decisions between rounds) or `path_share` (also where
    a person takes it)."""
    seed_sha256: str
    classifier_sha256: str
    scores: list[int]
    """Pages of the pool by score, see `histogram.py`."""
    labelled: dict[str, Any] | None
    """Average precision and curve on the labelled pages (`facts.ranking`)."""
    tokenizer: str | None
    """With what `tokens_counted` was counted; None: there is only the estimate of four bytes a token."""
    tokens_counted: int | None
    tokens_error: int | None
    """Standard error of `tokens_counted`, which comes from a sample."""
    duplicates: dict[str, int]
    """Captures dropped as duplicates so far, by kind."""
    contamination: list[dict[str, int | str]]
    """Pages and segments that quote a benchmark so far, by benchmark and n."""
    threshold_pages: int
    """Pages with the threshold's very score."""
    threshold_left: int
    """Of these, the ones that were not collected: equal scores go by the hash of the URL, which says nothing of a page."""
    warnings: list[str]
    """What a person should know of this round, in sentences."""


@dataclass(frozen=True)
class Round:
    """A finished round."""

    record: Record
    scores: NDArray[np.float32]
    """One a page of the library as it was in this round."""
    collected: Captures
    """Sorted."""
    added: Captures
    """Captures under accepted paths that were not collected, sorted."""
    model: Path


@dataclass(frozen=True)
class Judgement:
    """The domain table with the paths that were accepted, and the uncollected captures below them (sorted)."""

    table: list[Domain]
    accepted: dict[str, list[str]]
    uncollected: Captures
    rejected: dict[str, list[str]]
    """Paths that a person rejected."""
    judged_by: str
    """See `Record`."""


def judge(
    library: Library, collected: Captures, scores: NDArray[np.float32], decisions: Mapping[int, Decision] = MappingProxyType({})
) -> Judgement:
    """Make the domain table and accept paths: by the annotation file, or by a person's decisions, then `config.path_share`."""
    with census(library, collected, scores) as captures:
        return judge_captures(captures, library.config, decisions)


def judge_captures(
    captures: duckdb.DuckDBPyConnection, config: MineConfig, decisions: Mapping[int, Decision] = MappingProxyType({})
) -> Judgement:
    """`judge` on a view `captures` as `census.py` describes it."""
    table = domain_table(captures, config)
    if config.annotations:
        annotations, by_share, judged_by = Annotations.read(Path(config.annotations)), False, "annotations"
    else:
        annotations, by_share = all_verdicts(decisions)
        judged_by = "path_share" if by_share and not annotations.table().num_rows else "person"
    proposed = {domain.host: accept_unattended(domain, config.path_share) for domain in table if domain.mathematical and by_share}
    accepted = annotations.paths("accept")
    for host, prefixes in proposed.items():
        unjudged = [prefix for prefix in prefixes if annotations.accepts(host, prefix) is None]
        accepted[host] = sorted({*accepted.get(host, []), *unjudged})
    by_threshold = verdict_rows(((host, prefix, True) for host, prefixes in proposed.items() for prefix in prefixes), annotated=False)
    captures.register("verdicts", pa.concat_tables([annotations.table(), by_threshold]))
    # A stem covers the path itself and what lies below it, by whole segments. Of several a person's goes first, then the one
    # with most letters beside `*`.
    under = captures.execute(
        """
        select capture from captures join verdicts using (host)
        where not collected and (path = stem or starts_with(path, stem || '/') or regexp_full_match(path, pattern))
        group by capture having arg_max(accepted, (annotated, len(replace(stem, '*', '')), stem)) order by capture
        """
    ).fetchnumpy()
    uncollected = np.asarray(under["capture"], dtype=np.int64)
    found = {host: prefixes for host, prefixes in sorted(accepted.items()) if prefixes}
    return Judgement(table, found, uncollected, annotations.paths("reject"), judged_by)


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

    Raises `ReviewNeeded` when a person judges the domains (`config.review`), another round would follow, and `decisions` has none for
    this one. Its scores are kept, so that the round goes on from there. Raises `MathQuarryError` when the classifier does not separate
    held-out positives from held-out negatives.
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
    judgement = judge(library, collected, scores, {key: decision for key, decision in decisions.items() if key <= number})
    ends = number == config.max_rounds or (overlap is not None and overlap >= config.stop_overlap)
    if config.review and not ends and number not in decisions:
        raise ReviewNeeded(number, table_rows(judgement.table, config.path_share))
    added = np.setdiff1d(judgement.uncollected, seed.positives)
    heap = library.pool & (scores == np.float32(chosen.threshold))
    heap_pages, heap_left = int(heap.sum()), int((heap & ~chosen.mask).sum())
    record = Record(
        round=number,
        pages=len(collected),
        tokens=chosen.tokens,
        budget=budget,
        threshold=chosen.threshold,
        overlap=overlap,
        seed_positives=positives,
        seed_negatives=negatives,
        negatives_limit=seed.limit,
        separation=asdict(separated),
        recall_threshold=recalled.threshold if recalled else None,
        recall_captures=recalled.passed if recalled else None,
        recall_separation=asdict(recalled.separation) if recalled else None,
        domains=len(judgement.table),
        mathematical_domains=[domain.host for domain in judgement.table if domain.mathematical],
        accepted_paths=[host + prefix for host, prefixes in judgement.accepted.items() for prefix in prefixes],
        pages_added=len(added),
        rejected_paths=[host + prefix for host, prefixes in judgement.rejected.items() for prefix in prefixes],
        judged_by=judgement.judged_by,
        seed_sha256=facts.seed_digest(seed),
        classifier_sha256=file_digest(model),
        scores=histogram(scores[library.pool]),
        labelled=facts.ranking(library, scores, facts.read_labels(Path(config.labelled))) if config.labelled else None,
        tokenizer=Path(config.tokenizer).name if config.tokenizer else None,
        tokens_counted=counted[0] if counted else None,
        tokens_error=counted[1] if counted else None,
        duplicates=facts.duplicates_by_kind(library),
        contamination=library.contamination.counts(),
        threshold_pages=heap_pages,
        threshold_left=heap_left,
        warnings=[
            *seed_warnings(seed, config),
            *separation_warnings(separated, recalled, config),
            *threshold_warnings(chosen.threshold, heap_pages, heap_left, len(collected)),
        ],
    )
    with atomic_path(folder / "pages.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, scores=scores, collected=collected, added=added)
    write_json(folder / "record.json", asdict(record))
    return Round(record, scores, collected, added, model)


def _separation(library: Library, seed: Seed, held_out: HeldOut, model: Path) -> Separation:
    examples = list(seed.held_out_examples(library, held_out))
    positive = np.asarray([label for _, label in examples], dtype=bool)
    scores = load_classifier(model, model.stat().st_mtime_ns).score([text for text, _ in examples])
    return separation(scores, positive, library.config.separation.least_pages)


def _choose(library: Library, scores: NDArray[np.float32], budget: int) -> tuple[Selection, tuple[int, int] | None]:
    """Select pages for the budget. With a tokenizer a first choice tells how far the estimate is off, and a second spends by that."""
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
            Record(**read_json(folder / "record.json")),
            arrays["scores"],
            arrays["collected"],
            arrays["added"],
            folder / "classifier.bin",
        )
