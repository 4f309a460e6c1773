"""Flow `rejection`: rejection sampling of further solutions."""

from __future__ import annotations

import tasks.rejection
from data.store import BuildMode
from flows.stage import ArtifactRef, stage_flow
from models.config import RejectionConfig
from tasks.stage import Produced


@stage_flow("rejection", tasks.rejection.rejection)
def rejection_flow(
    store: str,
    config: RejectionConfig,
    policy: ArtifactRef,
    problems: ArtifactRef,
    examples: ArtifactRef,
    mode: BuildMode = "reuse",
) -> Produced:
    """Sample solutions from a policy and keep the right ones as further fine-tuning examples.

    Args:
        store: Folder or fsspec URL of the artifacts.
        config: Settings of the stage.
        policy: `pretrain`, `sft` or `grpo` artifact.
        problems: `problems` artifact with the training questions.
        examples: `curate` artifact; what it has already is not kept again.
        mode: reuse: make it only if it is missing; rebuild: make it again; require: fail if it is missing.
    """
    return tasks.rejection.rejection(store, config, policy, problems, examples, mode)
