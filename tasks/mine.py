"""Task `mine`: rounds of corpus mining with domain discovery (paper section 2.1)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import task

from mathquarry.data.mine.config import MineConfig
from mathquarry.data.mine.domains.review import Decision, Decisions, ReviewNeeded
from mathquarry.data.store.store import BuildMode, Store
from mathquarry.data.store.workspace import Workspace
from mathquarry.tasks.stage import StageResult, produce

VERSION = 11


@task(name="mine")
def mine(store: str, config: MineConfig, crawl: str, problems: str, mode: BuildMode = "reuse") -> StageResult | ReviewNeeded:
    """Artifact: the corpus as Parquet, the classifier, the rounds' record, the domain table, and every dropped page with its reason.

    Returns `ReviewNeeded` if a person has to review a round's domains first. After `decide`, calling it again continues from there.
    """

    def work(workspace: Workspace, inputs: dict[str, Path]) -> dict[str, Any]:
        from mathquarry.data.mine.loop import mine as mine_corpus

        return mine_corpus(config, inputs["crawl"], inputs["problems"], workspace, _reviews(store))

    try:
        return produce(
            store,
            "mine",
            VERSION,
            {"mine": config},
            {"crawl": crawl, "problems": problems},
            work,
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
