"""Flow `pretrain`: continued pretraining."""

from __future__ import annotations

from prefect import flow

import tasks.pretrain
from data.store import BuildMode
from models.config import PretrainConfig, PretrainedModel, ScratchModel
from tasks.stage import Produced


@flow(name="pretrain", flow_run_name="pretrain")
def pretrain_flow(
    store: str, model: ScratchModel | PretrainedModel, config: PretrainConfig, corpus: str, problems: str, mode: BuildMode = "reuse"
) -> Produced:
    """Train the base model on a `mine` artifact."""
    return tasks.pretrain.pretrain(store, model, config, corpus, problems, mode)
