"""Flow `evaluate`: greedy accuracy, Pass@K and Maj@K."""

from __future__ import annotations

import mathquarry.tasks.evaluate
from mathquarry.data.store.store import BuildMode
from mathquarry.flows.stages.stage import ArtifactRef, stage_flow
from mathquarry.models.evaluate.config import EvaluateConfig
from mathquarry.tasks.stage import StageResult


@stage_flow("evaluate", mathquarry.tasks.evaluate.evaluate)
def evaluate_flow(store: str, config: EvaluateConfig, policy: ArtifactRef, problems: ArtifactRef, mode: BuildMode = "reuse") -> StageResult:
    """Score a policy on the held-out questions of a `problems` artifact.

    Args:
        store: Folder or fsspec URL of the artifacts.
        config: Settings of the stage; the defaults are the paper's.
        policy: `pretrain`, `sft` or `grpo` artifact.
        problems: `problems` artifact with the held-out questions.
        mode: reuse: make it only if it is missing; rebuild: make it again; require: fail if it is missing.
    """
    return mathquarry.tasks.evaluate.evaluate(store, config, policy, problems, mode)
