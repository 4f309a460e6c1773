"""Flow `pretrain`: continued pretraining."""

from __future__ import annotations

import mathquarry.tasks.pretrain
from mathquarry.data.store.store import BuildMode
from mathquarry.flows.stages.stage import ArtifactRef, stage_flow
from mathquarry.models.policy.config import PretrainedModel, ScratchModel
from mathquarry.models.train.config import PretrainConfig
from mathquarry.tasks.stage import StageResult


@stage_flow("pretrain", mathquarry.tasks.pretrain.pretrain)
def pretrain_flow(
    store: str,
    model: ScratchModel | PretrainedModel,
    config: PretrainConfig,
    corpus: ArtifactRef,
    problems: ArtifactRef,
    before: ArtifactRef | None = None,
    mode: BuildMode = "reuse",
) -> StageResult:
    """Train the base model on a `mine` artifact.

    Args:
        store: Folder or fsspec URL of the artifacts.
        model: What to start from.
        config: Settings of the stage; the defaults are the paper's.
        corpus: `mine` artifact.
        problems: `problems` artifact.
        before: `pretrain` artifact to continue from, instead of the model.
        mode: reuse: make it only if it is missing; rebuild: make it again; require: fail if it is missing.
    """
    return mathquarry.tasks.pretrain.pretrain(store, model, config, corpus, problems, before, mode)
