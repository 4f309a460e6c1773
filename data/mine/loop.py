"""Stage `mine`: from WARC files to a mathematics corpus in rounds (paper section 2.1).

read captures -> remove duplicates -> round { a first pass selects what may be mathematics -> extract that carefully, compare
it with benchmarks -> train the classifier on the seed -> score -> keep the best up to the token budget -> classify domains,
accept paths -> uncollected pages under accepted paths join the seed } until almost nothing new is collected.

Deviations from the paper:
1. Tokens are estimated at four UTF-8 bytes each.
2. Each round selects among all pages again; pages collected earlier have no priority. The paper does not specify this.
3. There are two passes, see `recall.py`. With `recall.enabled` off there is one, as in the paper.
4. Pages that quote a benchmark are removed before selection, so no classifier trains on them, and a round's budget counts
   only pages that stay. The paper decontaminates the collected corpus.
5. For the classifier, symbols and Chinese characters are words, and all numbers are one word. No page that a round collected
   is a negative example of the next.

A killed run resumes at the WARC file, the part of a crawl-wide step, the shard being compared or scored, or the round.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from mathquarry.data.crawl.annotations import Annotations
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import atomic_path, write_json
from mathquarry.data.mine.classify.recall import Recall, recall
from mathquarry.data.mine.classify.seed import first_seed, with_negatives
from mathquarry.data.mine.config import MineConfig
from mathquarry.data.mine.domains.review import Decision, Decisions
from mathquarry.data.mine.domains.table import to_arrow
from mathquarry.data.mine.library.library import Library, read_crawl
from mathquarry.data.mine.pages.pool import WorkerPool
from mathquarry.data.mine.pages.shards import warc_files
from mathquarry.data.mine.record.corpus import first_rounds, write_corpus, write_dropped
from mathquarry.data.mine.record.funnel import funnel
from mathquarry.data.mine.record.quality import measure
from mathquarry.data.mine.record.round import Round
from mathquarry.data.mine.record.samples import write_samples, write_scores
from mathquarry.data.mine.rounds import load_round, review_domains, run_round
from mathquarry.data.store.artifacts import WARNINGS
from mathquarry.data.store.workspace import Workspace

logger = logging.getLogger("mathquarry")

Summary = dict[str, int | float | str]


@dataclass(frozen=True)
class Mined:
    """The rounds of a run."""

    rounds: list[Round]
    recalled: Recall | None
    """The last round's first pass."""
    stopped: str
    """Why the rounds ended: `overlap` or `max_rounds`."""


def mine(config: MineConfig, crawl: Path, problems: Path, workspace: Workspace, reviews: Path | None = None) -> Summary:
    """Mine the WARC files of a crawl artifact.

    Writes to `workspace.out`: corpus/part-NNNN.parquet, rounds.json (rounds, funnel, dropped by reason, contamination by
    benchmark and n), domains.parquet, dropped.parquet, contamination.parquet (every quotation), samples.parquet and
    scores.parquet (`samples.py`), classifier.bin (the last round's, collapsed). Metrics: pages, tokens, overlap and
    threshold by round. Raises `MathQuarryError` when the crawl has no pages with text, when cleaning leaves none, or
    when there is no seed.

    With `config.review`, `reviews` is the folder of the reviews; raises `ReviewNeeded` when a round waits for its decision.
    """
    if config.review and reviews is None:
        raise MathQuarryError("mine.review asks a person between rounds, and only a served run can do that; unset it here.")
    decisions = Decisions(reviews / config.review).read() if config.review and reviews else {}
    if config.annotations:
        Annotations.read(Path(config.annotations))  # report a mistake in the file before the first round
    with WorkerPool(config.workers, workspace.progress) as workers:
        library = read_crawl(warc_files(crawl), problems, config, workspace.scratch, workers)
        mined = run_rounds(library, workspace, decisions)
        return _write_results(library, mined, crawl, workspace, decisions)


def run_rounds(library: Library, workspace: Workspace, decisions: Mapping[int, Decision] = MappingProxyType({})) -> Mined:
    """Run rounds until nearly all of a round's tokens were collected before, or `config.max_rounds`. Finished rounds are reused."""
    config = library.config
    seed, candidates = first_seed(library, config, workspace.scratch)
    rounds: list[Round] = []
    recalled = None
    workspace.metrics.rewind(0)  # reused rounds are logged again from their records
    with workspace.progress.track("mining rounds", config.max_rounds, "round") as bar:
        for number in range(1, config.max_rounds + 1):
            folder = workspace.scratch / "rounds" / f"{number:02d}"
            if config.recall.enabled:
                recalled = recall(library, seed, config, folder / "recall")
                library.grow(recalled.survivors(library), f"{number:02d}-recalled")
            if not library.pool.any():
                raise MathQuarryError(
                    "every page of the crawl repeats another one or quotes a benchmark: nothing is left to mine. Use a larger crawl."
                )
            before = rounds[-1].collected if rounds else None
            done = load_round(folder) or run_round(number, library, seed, recalled, before, folder, decisions)
            rounds.append(done)
            record = done.record
            for sentence in record.warnings:
                logger.warning("mining round %d: %s", number, sentence)
            kept = record.selection
            workspace.metrics.log(number, pages=kept.pages, tokens=kept.tokens, overlap=kept.overlap, threshold=kept.threshold)
            bar.advance()
            if kept.overlap is not None and kept.overlap >= config.stop_overlap:
                return Mined(rounds, recalled, "overlap")
            if number < config.max_rounds:
                library.grow(done.added, f"{number:02d}-added")
                usable = library.pages.capture[library.pool & library.pages.among(done.added)]
                seed = with_negatives(library, candidates, np.union1d(seed.positives, usable), done.collected, config, seed.outside)
    return Mined(rounds, recalled, "max_rounds")


def _write_results(library: Library, mined: Mined, crawl: Path, workspace: Workspace, decisions: Mapping[int, Decision]) -> Summary:
    rounds, last = mined.rounds, mined.rounds[-1]
    corpus, dropped = workspace.out / "corpus", workspace.out / "dropped.parquet"
    write_corpus(library.pages, last, first_rounds(library.pages.capture, [done.collected for done in rounds]), corpus)
    reasons = write_dropped(library, last, mined.recalled, dropped)
    quotations = library.contamination
    quotations.write(library.urls(quotations.pages), workspace.out / "contamination.parquet")
    write_samples(library, last, workspace.out / "samples.parquet")
    write_scores(library, rounds, workspace.out / "scores.parquet")
    reviewed = review_domains(library, last.collected, last.scores, decisions)
    if decisions:
        write_json(workspace.out / "review.json", {number: decision.model_dump(mode="json") for number, decision in decisions.items()})
    with atomic_path(workspace.out / "domains.parquet") as temporary:
        pq.write_table(to_arrow(reviewed.table, reviewed.accepted), temporary, compression="zstd")
    shutil.copyfile(last.model, workspace.out / "classifier.bin")
    write_json(
        workspace.out / "rounds.json",
        {
            "rounds": _records(rounds),
            "stopped": mined.stopped,
            "dropped": reasons,
            "contamination": quotations.counts(),
            "decontamination": quotations.totals(),
            "funnel": funnel(library, last.record.selection, sum(reasons.values())),
        },
    )
    summary: Summary = {
        "pages": last.record.selection.pages,
        "tokens": last.record.selection.tokens,
        "rounds": len(rounds),
        "stopped": mined.stopped,
        "threshold": last.record.selection.threshold,
        "mathematical_domains": len(last.record.domains.mathematical_domains),
    }
    if last.record.selection.overlap is not None:
        summary["overlap"] = last.record.selection.overlap
    if last.record.classifier.separation["auc"] is not None:
        summary["held_out_auc"] = last.record.classifier.separation["auc"]
    warnings = [f"round {done.record.round}: {sentence}" for done in rounds for sentence in done.record.warnings]
    summary["warnings"] = len(warnings)
    write_json(workspace.out / WARNINGS, warnings)
    summary |= {f"dropped_{reason.replace('-', '_')}": count for reason, count in reasons.items()}
    summary |= {f"quoting_{hit['benchmark']}_{hit['n']}_gram": hit["pages"] for hit in quotations.counts()}
    summary["segments_quoting_benchmarks"] = int(quotations.totals()["segments_hit"])
    truth = crawl / "truth.jsonl"
    if truth.exists():
        summary |= measure(truth, corpus, dropped)
    return summary


def _records(rounds: list[Round]) -> list[dict[str, Any]]:
    """The rounds' records, each with the domains that were not mathematical in the round before."""
    known: set[str] = set()
    records = []
    for done in rounds:
        domains = done.record.domains.mathematical_domains
        records.append(done.record.row() | {"new_domains": [host for host in domains if host not in known]})
        known = set(domains)
    return records
