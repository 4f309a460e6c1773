"""Flow `curate`: solutions in three formats."""

from __future__ import annotations

from prefect import flow

import tasks.curate
from data.config import CurateConfig
from data.store import BuildMode
from tasks.stage import Produced


@flow(name="curate", flow_run_name="curate")
def curate_flow(store: str, config: CurateConfig, problems: str, mode: BuildMode = "reuse") -> Produced:
    """Turn a `problems` artifact into fine-tuning examples."""
    return tasks.curate.curate(store, config, problems, mode)
