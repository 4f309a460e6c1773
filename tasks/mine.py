"""Task `mine`: rounds of corpus mining with domain discovery (paper section 2.1)."""

from __future__ import annotations

from prefect import task

from data.config import MineConfig
from data.store import BuildMode
from tasks.stage import Produced, produce

VERSION = 2


@task(name="mine")
def mine(store: str, config: MineConfig, crawl: str, problems: str, mode: BuildMode = "reuse") -> Produced:
    """Artifact: the corpus as Parquet, the classifier, the rounds' record, the domain table, and every dropped page with its reason."""
    from data.mine.loop import mine as mine_corpus

    return produce(
        store,
        "mine",
        VERSION,
        {"mine": config},
        {"crawl": crawl, "problems": problems},
        lambda space, inputs: mine_corpus(config, inputs["crawl"], inputs["problems"], space),
        sources=[path for path in (config.seed_pages.path, config.annotations) if path],
        mode=mode,
    )
