"""Stage `mine`: from WARC files to a mathematics corpus in rounds (paper section 2.1).

read captures -> remove duplicates -> round { let through what may be mathematics -> extract that carefully, compare it
with benchmarks -> train the classifier on the seed -> score -> keep the best up to the token budget -> judge domains
and paths -> uncollected pages under accepted paths join the seed } until nearly nothing new is collected.

Departures from the paper, numbered:
1. Tokens are estimated at four UTF-8 bytes each.
2. Each round selects among all pages anew; pages collected earlier have no privilege. The paper
   leaves this open.
3. Two passes: see `recall.py`. With `recall.enabled` off there is one, as in the paper.
4. Pages that quote a benchmark go before selection, so they train no classifier, and a round's budget counts only
   pages that stay. The paper decontaminates the collected corpus.
5. Symbols and Chinese characters are words to the classifier, all numbers one word, and no page that a round collected
   is a negative example of the next.

A killed run resumes at the WARC, the part of a crawl-wide step, the shard compared or scored, or the round.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from data.config import MineConfig
from data.errors import MathQuarryError
from data.files import atomic_path, write_json
from data.mine.annotations import Annotations
from data.mine.corpus import first_rounds, write_corpus, write_dropped
from data.mine.domains import to_arrow
from data.mine.funnel import funnel
from data.mine.library import Library, read_crawl
from data.mine.pool import WorkerPool
from data.mine.quality import measure
from data.mine.recall import Recall, recall
from data.mine.review import Decision, Decisions
from data.mine.rounds import Round, judge, load_round, run_round
from data.mine.samples import write_samples, write_scores
from data.mine.seed import first_seed, with_negatives
from data.mine.shards import warc_files
from data.workspace import Workspace

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


def mine(config: MineConfig, crawl: Path, problems: Path, space: Workspace, reviews: Path | None = None) -> Summary:
    """Mine the WARC files of a crawl artifact.

    Writes to `space.out`: corpus/part-NNNN.parquet, rounds.json (rounds, funnel, dropped by reason, contamination by
    benchmark and n), domains.parquet, dropped.parquet, contamination.parquet (every quotation), samples.parquet and
    scores.parquet (`samples.py`), classifier.bin (the last round's, collapsed). Metrics: pages, tokens, overlap and
    threshold by round. Raises `MathQuarryError` when the crawl has no pages with text, when cleaning leaves none, or
    when there is no seed.

    With `config.review`, `reviews` is the folder of the reviews; raises `ReviewNeeded` when a round waits for its decision.
    """
    if config.review and reviews is None:
        raise MathQuarryError("mine.review asks a person between rounds, which only a served run can do; unset it here.")
    decisions = Decisions(reviews / config.review).read() if config.review and reviews else {}
    if config.annotations:
        Annotations.read(Path(config.annotations))  # a mistake in the file should not wait for the first round
    with WorkerPool(config.workers, space.progress) as workers:
        library = read_crawl(warc_files(crawl), problems, config, space.scratch, workers)
        mined = run_rounds(library, space, decisions)
        return _write_results(library, mined, crawl, space, decisions)


def run_rounds(library: Library, space: Workspace, decisions: Mapping[int, Decision] = MappingProxyType({})) -> Mined:
    """Rounds until one's tokens were nearly all collected before, or `config.max_rounds`. Finished rounds are found again."""
    config = library.config
    seed, candidates = first_seed(library, config, space.scratch)
    rounds: list[Round] = []
    recalled = None
    space.metrics.rewind(0)  # rounds found again are logged again, from their records
    with space.progress.track("mining rounds", config.max_rounds, "round") as bar:
        for number in range(1, config.max_rounds + 1):
            folder = space.scratch / "rounds" / f"{number:02d}"
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
            space.metrics.log(number, pages=record.pages, tokens=record.tokens, overlap=record.overlap, threshold=record.threshold)
            bar.advance()
            if record.overlap is not None and record.overlap >= config.stop_overlap:
                return Mined(rounds, recalled, "overlap")
            if number < config.max_rounds:
                library.grow(done.added, f"{number:02d}-added")
                usable = library.pages.capture[library.pool & library.pages.among(done.added)]
                seed = with_negatives(library, candidates, np.union1d(seed.positives, usable), done.collected, config, seed.outside)
    return Mined(rounds, recalled, "max_rounds")


def _write_results(library: Library, mined: Mined, crawl: Path, space: Workspace, decisions: Mapping[int, Decision]) -> Summary:
    rounds, last = mined.rounds, mined.rounds[-1]
    corpus, dropped = space.out / "corpus", space.out / "dropped.parquet"
    write_corpus(library.pages, last, first_rounds(library.pages.capture, [done.collected for done in rounds]), corpus)
    reasons = write_dropped(library, last, mined.recalled, dropped)
    quotations = library.contamination
    quotations.write(library.urls(quotations.pages), space.out / "contamination.parquet")
    write_samples(library, last, space.out / "samples.parquet")
    write_scores(library, rounds, space.out / "scores.parquet")
    judgement = judge(library, last.collected, last.scores, decisions)
    if decisions:
        write_json(space.out / "review.json", {number: decision.model_dump(mode="json") for number, decision in decisions.items()})
    with atomic_path(space.out / "domains.parquet") as temporary:
        pq.write_table(to_arrow(judgement.table, judgement.accepted), temporary, compression="zstd")
    shutil.copyfile(last.model, space.out / "classifier.bin")
    write_json(
        space.out / "rounds.json",
        {
            "rounds": _records(rounds),
            "stopped": mined.stopped,
            "dropped": reasons,
            "contamination": quotations.counts(),
            "decontamination": quotations.totals(),
            "funnel": funnel(library, last.record, sum(reasons.values())),
        },
    )
    summary: Summary = {
        "pages": last.record.pages,
        "tokens": last.record.tokens,
        "rounds": len(rounds),
        "stopped": mined.stopped,
        "threshold": last.record.threshold,
        "mathematical_domains": len(last.record.mathematical_domains),
    }
    if last.record.overlap is not None:
        summary["overlap"] = last.record.overlap
    if last.record.separation["auc"] is not None:
        summary["held_out_auc"] = last.record.separation["auc"]
    summary["warnings"] = sum(len(done.record.warnings) for done in rounds)
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
        domains = done.record.mathematical_domains
        records.append(asdict(done.record) | {"new_domains": [host for host in domains if host not in known]})
        known = set(domains)
    return records
