"""Flow `rejection`: rejection sampling of further solutions."""

from __future__ import annotations

import mathquarry.tasks.rejection
from mathquarry.data.store.store import BuildMode
from mathquarry.flows.stages.stage import ArtifactRef, stage_flow
from mathquarry.models.evaluate.config import RejectionConfig
from mathquarry.tasks.stage import StageResult


@stage_flow("rejection", mathquarry.tasks.rejection.rejection)
def rejection_flow(
    store: str,
    config: RejectionConfig,
    policy: ArtifactRef,
    problems: ArtifactRef,
    examples: ArtifactRef,
    mode: BuildMode = "reuse",
) -> StageResult:
    """Sample solutions from a policy and keep the right ones as further fine-tuning examples.

    Args:
        store: Folder or fsspec URL of the artifacts.
        config: Settings of the stage.
        policy: `pretrain`, `sft` or `grpo` artifact.
        problems: `problems` artifact with the training questions.
        examples: `curate` artifact; solutions that it already contains are not kept again.
        mode: reuse: make it only if it is missing; rebuild: make it again; require: fail if it is missing.
    """
    return mathquarry.tasks.rejection.rejection(store, config, policy, problems, examples, mode)
