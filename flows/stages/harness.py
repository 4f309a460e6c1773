"""Flow `harness`: benchmarks of lm-evaluation-harness."""

from __future__ import annotations

import mathquarry.tasks.harness
from mathquarry.data.store.store import BuildMode
from mathquarry.flows.stages.stage import ArtifactRef, stage_flow
from mathquarry.models.evaluate.config import HarnessConfig
from mathquarry.tasks.stage import StageResult


@stage_flow("harness", mathquarry.tasks.harness.harness)
def harness_flow(store: str, config: HarnessConfig, policy: ArtifactRef, mode: BuildMode = "reuse") -> StageResult:
    """Score a policy on benchmarks of lm-evaluation-harness.

    Args:
        store: Folder or fsspec URL of the artifacts.
        config: Which benchmarks, and where their data are.
        policy: `pretrain`, `sft` or `grpo` artifact.
        mode: reuse: make it only if it is missing; rebuild: make it again; require: fail if it is missing.
    """
    return mathquarry.tasks.harness.harness(store, config, policy, mode)
