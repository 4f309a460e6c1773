"""Flow `mine`: rounds of corpus mining with domain discovery, between which a person may judge the domains."""

from __future__ import annotations

import tasks.mine
from data.config import MineConfig
from data.mine.review import ReviewNeeded
from data.store import BuildMode
from flows.review import ask
from flows.stage import ArtifactRef, stage_flow
from tasks.stage import Produced


@stage_flow("mine", tasks.mine.mine)
def mine_flow(store: str, config: MineConfig, crawl: ArtifactRef, problems: ArtifactRef, mode: BuildMode = "reuse") -> Produced:
    """Mine the corpus from a `crawl` artifact, decontaminated against a `problems` artifact.

    With `config.review` the run is suspended between rounds until a person has judged the domain table; meanwhile it holds no process.

    Args:
        store: Folder or fsspec URL of the artifacts.
        config: Settings of the stage; the defaults are the paper's.
        crawl: `crawl` artifact.
        problems: `problems` artifact whose benchmarks the corpus must not quote.
        mode: reuse: make it only if it is missing; rebuild: make it again; require: fail if it is missing.
    """
    outcome = tasks.mine.mine(store, config, crawl, problems, mode)
    while isinstance(outcome, ReviewNeeded):
        assert config.review is not None
        tasks.mine.decide(store, config.review, outcome.round, ask(outcome))
        outcome = tasks.mine.mine(store, config, crawl, problems, mode)
    return outcome
