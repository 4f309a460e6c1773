"""Flow `mine`: rounds of corpus mining with domain discovery."""

from __future__ import annotations

from prefect import flow

import tasks.mine
from data.config import MineConfig
from data.store import BuildMode
from tasks.stage import Produced


@flow(name="mine", flow_run_name="mine")
def mine_flow(store: str, config: MineConfig, crawl: str, problems: str, mode: BuildMode = "reuse") -> Produced:
    """Mine the corpus from a `crawl` artifact, decontaminated against a `problems` artifact."""
    return tasks.mine.mine(store, config, crawl, problems, mode)
