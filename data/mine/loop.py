"""Stage `mine`: from WARC files to a mathematics corpus in rounds (paper section 2.1).

extract -> remove duplicates and benchmark text -> round { train classifier on the seed -> score all pages -> keep the
best up to the token budget -> judge domains and paths -> uncollected pages under accepted paths join the seed } until
nearly nothing new is collected.

Departures from the paper, numbered:
1. Tokens are estimated at four UTF-8 bytes each.
2. Each round selects among all pages anew; pages collected earlier have no privilege. The paper
   leaves this open.

A killed run resumes at the WARC, the shard compared with benchmarks, or the round.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

import pyarrow.parquet as pq

from data.config import MineConfig
from data.errors import MathQuarryError
from data.files import atomic_path, write_json
from data.mine.annotations import Annotations
from data.mine.cleaning import Cleaning, clean
from data.mine.corpus import first_rounds, write_corpus, write_dropped
from data.mine.domains import domain_table, to_arrow
from data.mine.pool import WorkerPool
from data.mine.quality import measure
from data.mine.review import Decision, Decisions
from data.mine.rounds import Round, judge, load_round, run_round
from data.mine.seed import first_seed, with_negatives
from data.mine.shards import Mask, Pages, extract_crawl, warc_files
from data.workspace import Workspace

Summary = dict[str, int | float | str]


def mine(config: MineConfig, crawl: Path, problems: Path, space: Workspace, reviews: Path | None = None) -> Summary:
    """Mine the WARC files of a crawl artifact.

    Writes to `space.out`: corpus/part-NNNN.parquet, rounds.json (rounds, funnel, dropped by reason, contamination by
    benchmark and n), domains.parquet, dropped.parquet, contamination.parquet (every quotation), classifier.bin (the
    last round's, collapsed). Metrics: pages, tokens, overlap and threshold by round. Raises `MathQuarryError` when
    the crawl has no pages with text, when cleaning leaves none, or when there is no seed.

    With `config.review`, `reviews` is the folder of the reviews; raises `ReviewNeeded` when a round waits for its decision.
    """
    if config.review and reviews is None:
        raise MathQuarryError("mine.review asks a person between rounds, which only a served run can do; unset it here.")
    decisions = Decisions(reviews / config.review).read() if config.review and reviews else {}
    if config.annotations:
        Annotations.read(Path(config.annotations))  # a mistake in the file should not wait for the first round
    with WorkerPool(config.workers, space.progress) as workers:
        shards = extract_crawl(warc_files(crawl), space.scratch / "pages", config, workers)
        pages = Pages.load(shards)
        pages, cleaning = clean(pages, problems, config, space.scratch, workers)
        pool = cleaning.pool(pages)
        if not pool.any():
            raise MathQuarryError(
                "every page of the crawl repeats another one or quotes a benchmark: nothing is left to mine. Use a larger crawl."
            )
        rounds, stopped = run_rounds(pages, pool, config, space, workers, decisions)
    return _write_results(pages, cleaning, pool, rounds, stopped, config, crawl, space, decisions)


def run_rounds(
    pages: Pages,
    pool: Mask,
    config: MineConfig,
    space: Workspace,
    workers: WorkerPool,
    decisions: Mapping[int, Decision] = MappingProxyType({}),
) -> tuple[list[Round], str]:
    """Rounds until one's tokens were nearly all collected before, or `config.max_rounds`. Finished rounds are read from their checkpoints.

    Returns the rounds and why they ended: `overlap` or `max_rounds`.
    """
    seed = first_seed(pages, pool, config, space.scratch)
    rounds: list[Round] = []
    space.metrics.rewind(0)  # rounds found again are logged again, from their records
    with space.progress.track("mining rounds", config.max_rounds, "round") as bar:
        for number in range(1, config.max_rounds + 1):
            folder = space.scratch / "rounds" / f"{number:02d}"
            done = load_round(folder)
            if done is None:
                before = rounds[-1].collected if rounds else None
                done = run_round(number, pages, pool, seed, before, config, folder, workers, decisions)
            rounds.append(done)
            record = done.record
            space.metrics.log(number, pages=record.pages, tokens=record.tokens, overlap=record.overlap, threshold=record.threshold)
            bar.advance()
            if done.record.overlap is not None and done.record.overlap >= config.stop_overlap:
                return rounds, "overlap"
            if number < config.max_rounds:
                seed = with_negatives(pages, pool, seed.positives | done.added, config, seed.outside)
    return rounds, "max_rounds"


def _write_results(
    pages: Pages,
    cleaning: Cleaning,
    pool: Mask,
    rounds: list[Round],
    stopped: str,
    config: MineConfig,
    crawl: Path,
    space: Workspace,
    decisions: Mapping[int, Decision],
) -> Summary:
    last = rounds[-1]
    corpus, dropped = space.out / "corpus", space.out / "dropped.parquet"
    write_corpus(pages, last, first_rounds([done.collected for done in rounds]), corpus)
    reasons = write_dropped(pages, cleaning, pool, last, dropped)
    cleaning.contamination.write(pages.url, space.out / "contamination.parquet")
    judgement = judge(pages, domain_table(pages, pool, last.collected, config), pool, config, decisions)
    if decisions:
        write_json(space.out / "review.json", {number: decision.model_dump(mode="json") for number, decision in decisions.items()})
    with atomic_path(space.out / "domains.parquet") as temporary:
        pq.write_table(to_arrow(judgement.table, judgement.accepted), temporary, compression="zstd")
    shutil.copyfile(last.model, space.out / "classifier.bin")
    records = [asdict(done.record) for done in rounds]
    funnel = [
        {"step": "captured", "pages": sum(reasons.values()) + last.record.pages, "tokens": None},
        *cleaning.funnel(pages),
        {"step": "collected", "pages": last.record.pages, "tokens": last.record.tokens},
    ]
    write_json(
        space.out / "rounds.json",
        {
            "rounds": records,
            "stopped": stopped,
            "dropped": reasons,
            "contamination": cleaning.contamination.counts(),
            "decontamination": cleaning.contamination.totals(),
            "funnel": funnel,
        },
    )
    summary: Summary = {
        "pages": last.record.pages,
        "tokens": last.record.tokens,
        "rounds": len(rounds),
        "stopped": stopped,
        "threshold": last.record.threshold,
        "mathematical_domains": len(last.record.mathematical_domains),
    }
    if last.record.overlap is not None:
        summary["overlap"] = last.record.overlap
    summary |= {f"dropped_{reason.replace('-', '_')}": count for reason, count in reasons.items()}
    summary |= {f"quoting_{hit['benchmark']}_{hit['n']}_gram": hit["pages"] for hit in cleaning.contamination.counts()}
    summary["segments_quoting_benchmarks"] = int(cleaning.contamination.totals()["segments_hit"])
    truth = crawl / "truth.jsonl"
    if truth.exists():
        summary |= measure(truth, corpus, dropped)
    return summary
