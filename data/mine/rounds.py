"""One round of the loop: train on the seed, score every page, keep the best, judge domains, enlarge the seed. And its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from data.config import MineConfig
from data.errors import MathQuarryError
from data.files import atomic_path, read_json, write_json
from data.mine import classifier
from data.mine.annotations import Annotations, covers
from data.mine.domains import Domain, accept_unattended, domain_table
from data.mine.pool import WorkerPool
from data.mine.review import Decision, ReviewNeeded, all_verdicts, table_rows
from data.mine.seed import Seed
from data.mine.selection import overlap, select
from data.mine.shards import Mask, Pages, iter_texts


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
    domains: int
    mathematical_domains: list[str]
    accepted_paths: list[str]
    pages_added: int
    """Uncollected pages under accepted paths: they join the positives of the next round."""


@dataclass(frozen=True)
class Round:
    """A finished round."""

    record: Record
    scores: NDArray[np.float32]
    collected: Mask
    added: Mask
    model: Path


@dataclass(frozen=True)
class Judgement:
    """The domain table with the paths that were accepted, and the pages below them."""

    table: list[Domain]
    accepted: dict[str, list[str]]
    pages: Mask


def judge(
    pages: Pages, table: list[Domain], pool: Mask, config: MineConfig, decisions: Mapping[int, Decision] = MappingProxyType({})
) -> Judgement:
    """Accept paths of the domain table: by the annotation file, or by a person's decisions, then `config.path_share`."""
    if config.annotations:
        annotations, by_share = Annotations.read(Path(config.annotations)), False
    else:
        annotations, by_share = all_verdicts(decisions)
    proposed = {domain.host: accept_unattended(domain, config.path_share) for domain in table if domain.mathematical and by_share}
    under = np.zeros(len(pages), dtype=bool)
    for page in np.flatnonzero(pool).tolist():
        host, path = pages.host[page], pages.path[page]
        verdict = annotations.accepts(host, path)
        under[page] = any(covers(prefix, path) for prefix in proposed.get(host, ())) if verdict is None else verdict
    accepted = annotations.accepted()
    for host, prefixes in proposed.items():
        unjudged = [prefix for prefix in prefixes if annotations.accepts(host, prefix) is None]
        accepted[host] = sorted({*accepted.get(host, []), *unjudged})
    return Judgement(table, {host: prefixes for host, prefixes in sorted(accepted.items()) if prefixes}, under)


def run_round(
    number: int,
    pages: Pages,
    pool: Mask,
    seed: Seed,
    before: Mask | None,
    config: MineConfig,
    folder: Path,
    workers: WorkerPool,
    decisions: Mapping[int, Decision] = MappingProxyType({}),
) -> Round:
    """Do round `number` (from 1) and write its checkpoint in `folder`; the record is written last.

    Raises `ReviewNeeded` when a person judges the domains (`config.review`), another round would follow, and `decisions` has none for
    this one. Its scores are kept, so that the round goes on from there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    positives, negatives = seed.counts
    model, scored = folder / "classifier.bin", folder / "scores.npy"
    if not scored.exists():
        _train(seed, pages, sum(seed.counts), config, folder, model)
        with atomic_path(scored) as temporary, temporary.open("wb") as file:
            np.save(file, score_pages(pages, pool, model, workers))
    scores = np.load(scored)
    budget = config.token_budgets[min(number, len(config.token_budgets)) - 1]
    chosen = select(scores, pages.tokens, pool, pages.canonical_url, budget)
    table = domain_table(pages, pool, chosen.mask, config)
    repeated = overlap(chosen.mask, before, pages.tokens)
    ends = number == config.max_rounds or (repeated is not None and repeated >= config.stop_overlap)
    if config.review and not ends and number not in decisions:
        raise ReviewNeeded(number, table_rows(table, config.path_share))
    judgement = judge(pages, table, pool, config, {key: decision for key, decision in decisions.items() if key <= number})
    added = judgement.pages & ~chosen.mask & ~seed.positives
    record = Record(
        round=number,
        pages=int(chosen.mask.sum()),
        tokens=chosen.tokens,
        budget=budget,
        threshold=chosen.threshold,
        overlap=repeated,
        seed_positives=positives,
        seed_negatives=negatives,
        domains=len(judgement.table),
        mathematical_domains=[domain.host for domain in judgement.table if domain.mathematical],
        accepted_paths=[host + prefix for host, prefixes in judgement.accepted.items() for prefix in prefixes],
        pages_added=int(added.sum()),
    )
    with atomic_path(folder / "pages.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, scores=scores, collected=chosen.mask, added=added)
    write_json(folder / "record.json", asdict(record))
    return Round(record, scores, chosen.mask, added, model)


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


def _train(seed: Seed, pages: Pages, count: int, config: MineConfig, folder: Path, model: Path) -> None:
    examples, full = folder / "examples.txt", folder / "full.bin"
    try:
        classifier.write_examples(examples, seed.examples(pages), count, config.seed)
        classifier.train(examples, full, config.classifier, config.seed)
        classifier.collapse(full, model)
    finally:
        # The full model takes 2 GB with the paper's settings and scores no differently.
        examples.unlink(missing_ok=True)
        full.unlink(missing_ok=True)


def score_pages(pages: Pages, pool: Mask, model: Path, workers: WorkerPool) -> NDArray[np.float32]:
    """Score every page of `pool`; others get 0. Shape (pages,)."""
    jobs = [(shard, pages.rows_of(number, pool), model) for number, shard in enumerate(pages.shards)]
    scores = np.zeros(len(pages), dtype=np.float32)
    found = workers.run("score pages", "shard", score_shard, jobs)
    scores[pool] = np.concatenate(found)
    if not np.isfinite(scores).all():
        raise MathQuarryError(f"the classifier gives scores that are no numbers; lower classifier.learning_rate ({model}).")
    return scores


def score_shard(shard: Path, rows: Mask, model: Path) -> NDArray[np.float32]:
    """Scores of one shard's pages for which `rows` is true."""
    scorer = _load_classifier(model, model.stat().st_mtime_ns)
    return np.concatenate([np.empty(0, dtype=np.float32), *(scorer.score(texts) for texts in iter_texts(shard, rows))])


@lru_cache(maxsize=1)
def _load_classifier(model: Path, version: int) -> classifier.Classifier:
    """`version` tells a classifier that was trained anew from the one that lay at the same path before."""
    return classifier.Classifier(model)
