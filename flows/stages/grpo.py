"""Flow `grpo`: one iteration of Algorithm 1, or of another method in the same framework."""

from __future__ import annotations

import mathquarry.tasks.grpo
from mathquarry.data.config import Positive
from mathquarry.data.store.store import BuildMode
from mathquarry.flows.stages.stage import ArtifactRef, stage_flow
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.tasks.stage import StageResult


@stage_flow("grpo", mathquarry.tasks.grpo.grpo)
def grpo_flow(
    store: str,
    config: GRPOConfig,
    policy: ArtifactRef,
    reward: ArtifactRef | None,
    problems: ArtifactRef,
    iteration: Positive,
    examples: ArtifactRef | None = None,
    mode: BuildMode = "reuse",
) -> StageResult:
    """Improve an `sft` or `grpo` artifact: against a reward model, by the answer checker, or on worked solutions.

    Args:
        store: Folder or fsspec URL of the artifacts.
        config: Settings of the stage; the defaults are the paper's.
        policy: `sft` artifact, or `grpo` artifact of the iteration before.
        reward: `reward` artifact; none if no reward model is used.
        problems: `problems` artifact.
        iteration: Number of the iteration, from 1.
        examples: `curate` artifact; only if `config.paradigm.data` is `examples`.
        mode: reuse: make it only if it is missing; rebuild: make it again; require: fail if it is missing.
    """
    return mathquarry.tasks.grpo.grpo(store, config, policy, reward, problems, iteration, examples, mode)
