"""Flow `mine`: rounds of corpus mining with domain discovery."""

from __future__ import annotations

import tasks.mine
from data.config import MineConfig
from data.store import BuildMode
from flows.stage import ArtifactRef, stage_flow
from tasks.stage import Produced


@stage_flow("mine")
def mine_flow(store: str, config: MineConfig, crawl: ArtifactRef, problems: ArtifactRef, mode: BuildMode = "reuse") -> Produced:
    """Mine the corpus from a `crawl` artifact, decontaminated against a `problems` artifact.

    Args:
        store: Folder or fsspec URL of the artifacts.
        config: Settings of the stage; the defaults are the paper's.
        crawl: `crawl` artifact.
        problems: `problems` artifact whose benchmarks the corpus must not quote.
        mode: reuse: make it only if it is missing; rebuild: make it again; require: fail if it is missing.
    """
    return tasks.mine.mine(store, config, crawl, problems, mode)
