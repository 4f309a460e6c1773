"""Flow `harness`: benchmarks of lm-evaluation-harness."""

from __future__ import annotations

import tasks.harness
from data.store import BuildMode
from flows.stage import ArtifactRef, stage_flow
from models.config import HarnessConfig
from tasks.stage import Produced


@stage_flow("harness", tasks.harness.harness)
def harness_flow(store: str, config: HarnessConfig, policy: ArtifactRef, mode: BuildMode = "reuse") -> Produced:
    """Score a policy on benchmarks of lm-evaluation-harness.

    Args:
        store: Folder or fsspec URL of the artifacts.
        config: Which benchmarks, and where their data are.
        policy: `pretrain`, `sft` or `grpo` artifact.
        mode: reuse: make it only if it is missing; rebuild: make it again; require: fail if it is missing.
    """
    return tasks.harness.harness(store, config, policy, mode)
