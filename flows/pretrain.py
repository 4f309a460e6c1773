"""Flow `pretrain`: continued pretraining."""

from __future__ import annotations

import tasks.pretrain
from data.store import BuildMode
from flows.stage import ArtifactRef, stage_flow
from models.config import PretrainConfig, PretrainedModel, ScratchModel
from tasks.stage import Produced


@stage_flow("pretrain", tasks.pretrain.pretrain)
def pretrain_flow(
    store: str,
    model: ScratchModel | PretrainedModel,
    config: PretrainConfig,
    corpus: ArtifactRef,
    problems: ArtifactRef,
    before: ArtifactRef | None = None,
    mode: BuildMode = "reuse",
) -> Produced:
    """Train the base model on a `mine` artifact.

    Args:
        store: Folder or fsspec URL of the artifacts.
        model: What to start from.
        config: Settings of the stage; the defaults are the paper's.
        corpus: `mine` artifact.
        problems: `problems` artifact.
        before: `pretrain` artifact to go on from, in place of the model.
        mode: reuse: make it only if it is missing; rebuild: make it again; require: fail if it is missing.
    """
    return tasks.pretrain.pretrain(store, model, config, corpus, problems, before, mode)
