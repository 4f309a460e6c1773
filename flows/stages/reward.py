"""Flow `reward`: the reward model, first trained and then refreshed with replay."""

from __future__ import annotations

import mathquarry.tasks.reward
from mathquarry.data.store.store import BuildMode
from mathquarry.flows.stages.registry import REFRESH
from mathquarry.flows.stages.stage import ArtifactRef, stage_flow
from mathquarry.models.reward.config import RefreshConfig, RewardConfig
from mathquarry.tasks.stage import StageResult


@stage_flow("reward", mathquarry.tasks.reward.train_reward)
def reward_flow(
    store: str, config: RewardConfig, start: ArtifactRef, policy: ArtifactRef, problems: ArtifactRef, mode: BuildMode = "reuse"
) -> StageResult:
    """Train the first reward model from the weights of `start`, on data sampled from `policy`.

    Args:
        store: Folder or fsspec URL of the artifacts.
        config: Settings of the stage; the defaults are the paper's.
        start: `pretrain` or `sft` artifact whose weights the reward model starts from.
        policy: `sft` artifact that samples the solutions.
        problems: `problems` artifact.
        mode: reuse: make it only if it is missing; rebuild: make it again; require: fail if it is missing.
    """
    return mathquarry.tasks.reward.train_reward(store, config, start, policy, problems, mode)


@stage_flow(REFRESH, mathquarry.tasks.reward.refresh_reward)
def reward_refresh_flow(
    store: str,
    config: RewardConfig,
    refresh: RefreshConfig,
    policy: ArtifactRef,
    problems: ArtifactRef,
    history: list[ArtifactRef],
    iteration: int,
    mode: BuildMode = "reuse",
) -> StageResult:
    """Continue the newest reward model of `history` (oldest first) on samples of `policy`, mixed with replay of all earlier data.

    Args:
        store: Folder or fsspec URL of the artifacts.
        config: Settings of the stage; the defaults are the paper's.
        refresh: How the refresh differs from the first training.
        policy: Newest policy; it samples the new solutions.
        problems: `problems` artifact.
        history: `reward` artifacts so far, oldest first.
        iteration: Number of the refresh, from 1.
        mode: reuse: make it only if it is missing; rebuild: make it again; require: fail if it is missing.
    """
    return mathquarry.tasks.reward.refresh_reward(store, config, refresh, policy, problems, history, iteration, mode)
