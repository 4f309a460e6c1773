"""Flow `grpo`: one iteration of Algorithm 1, or of another method in its frame."""

from __future__ import annotations

import tasks.grpo
from data.config import Positive
from data.store import BuildMode
from flows.stage import ArtifactRef, stage_flow
from models.config import GRPOConfig
from tasks.stage import Produced


@stage_flow("grpo", tasks.grpo.grpo)
def grpo_flow(
    store: str,
    config: GRPOConfig,
    policy: ArtifactRef,
    reward: ArtifactRef | None,
    problems: ArtifactRef,
    iteration: Positive,
    examples: ArtifactRef | None = None,
    mode: BuildMode = "reuse",
) -> Produced:
    """Improve an `sft` or `grpo` artifact: against a reward model, by the answer checker, or on worked solutions.

    Args:
        store: Folder or fsspec URL of the artifacts.
        config: Settings of the stage; the defaults are the paper's.
        policy: `sft` artifact, or `grpo` artifact of the iteration before.
        reward: `reward` artifact; none where `config.paradigm.reward` is not `model`.
        problems: `problems` artifact.
        iteration: Number of the iteration, from 1.
        examples: `curate` artifact; only where `config.paradigm.data` is `examples`.
        mode: reuse: make it only if it is missing; rebuild: make it again; require: fail if it is missing.
    """
    return tasks.grpo.grpo(store, config, policy, reward, problems, iteration, examples, mode)
