"""Flow `mine`: rounds of corpus mining with domain discovery, between which a person can review the domains."""

from __future__ import annotations

import mathquarry.tasks.mine
from mathquarry.data.mine.config import MineConfig
from mathquarry.data.mine.domains.review import ReviewNeeded
from mathquarry.data.store.store import BuildMode
from mathquarry.flows.stages.review import ask
from mathquarry.flows.stages.stage import ArtifactRef, stage_flow
from mathquarry.tasks.stage import StageResult


@stage_flow("mine", mathquarry.tasks.mine.mine)
def mine_flow(store: str, config: MineConfig, crawl: ArtifactRef, problems: ArtifactRef, mode: BuildMode = "reuse") -> StageResult:
    """Mine the corpus from a `crawl` artifact, decontaminated against a `problems` artifact.

    With `config.review` the run is suspended between rounds until a person has reviewed the domain table; meanwhile it has no process.

    Args:
        store: Folder or fsspec URL of the artifacts.
        config: Settings of the stage; the defaults are the paper's.
        crawl: `crawl` artifact.
        problems: `problems` artifact whose benchmarks the corpus must not quote.
        mode: reuse: make it only if it is missing; rebuild: make it again; require: fail if it is missing.
    """
    outcome = mathquarry.tasks.mine.mine(store, config, crawl, problems, mode)
    while isinstance(outcome, ReviewNeeded):
        assert config.review is not None
        mathquarry.tasks.mine.decide(store, config.review, outcome.round, ask(outcome))
        outcome = mathquarry.tasks.mine.mine(store, config, crawl, problems, mode)
    return outcome
