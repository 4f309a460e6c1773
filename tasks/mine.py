"""Task `mine`: rounds of corpus mining with domain discovery (paper section 2.1)."""

from __future__ import annotations

from pathlib import Path

from prefect import task

from data.config import MineConfig
from data.mine.review import Decision, Decisions, ReviewNeeded
from data.store import BuildMode, Store
from tasks.stage import Produced, produce

VERSION = 8


@task(name="mine")
def mine(store: str, config: MineConfig, crawl: str, problems: str, mode: BuildMode = "reuse") -> Produced | ReviewNeeded:
    """Artifact: the corpus as Parquet, the classifier, the rounds' record, the domain table, and every dropped page with its reason.

    Returns `ReviewNeeded` when a person has to judge a round's domains first; after `decide`, calling it again goes on from there.
    """
    from data.mine.loop import mine as mine_corpus

    try:
        return produce(
            store,
            "mine",
            VERSION,
            {"mine": config},
            {"crawl": crawl, "problems": problems},
            lambda space, inputs: mine_corpus(config, inputs["crawl"], inputs["problems"], space, _reviews(store)),
            sources=[path for path in (config.seed_pages.path, config.annotations, config.labelled, config.tokenizer) if path],
            mode=mode,
        )
    except ReviewNeeded as question:
        # Not a failure: the rounds so far are in the scratch folder.
        return question


def decide(store: str, review: str, number: int, decision: Decision) -> None:
    """Keep a person's decision after round `number` in the store."""
    Decisions(_reviews(store) / review).write(number, decision)


def _reviews(store: str) -> Path:
    return Store(store).root / "reviews"
