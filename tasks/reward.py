"""Tasks `train-reward` and `refresh-reward`: the reward model and its continuation with replay (paper sections 4.1.2 to 4.1.4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import task

from mathquarry.data.store.store import BuildMode
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.reward.config import RefreshConfig, RewardConfig
from mathquarry.tasks.stage import StageResult, produce

VERSION = 6


@task(name="train-reward")
def train_reward(store: str, config: RewardConfig, start: str, policy: str, problems: str, mode: BuildMode = "reuse") -> StageResult:
    """Artifact: the first reward model (weights from `start`) and the reward data sampled from `policy`."""

    def work(workspace: Workspace, inputs: dict[str, Path]) -> dict[str, Any]:
        from mathquarry.models.reward.stage import train_reward as train

        return train(config, inputs["start"] / "model", inputs["policy"] / "model", inputs["problems"], workspace)

    return produce(
        store,
        "reward",
        VERSION,
        {"reward": config},
        {"start": start, "policy": policy, "problems": problems},
        work,
        mode=mode,
    )


@task(name="refresh-reward")
def refresh_reward(
    store: str,
    config: RewardConfig,
    refresh: RefreshConfig,
    policy: str,
    problems: str,
    history: list[str],
    iteration: int,
    mode: BuildMode = "reuse",
) -> StageResult:
    """Artifact: the newest reward model of `history` (oldest first), continued on samples of `policy` with replay."""
    roles = [f"reward-{index}" for index in range(len(history))]

    def work(workspace: Workspace, inputs: dict[str, Path]) -> dict[str, Any]:
        from mathquarry.models.reward.stage import refresh_reward as go_on

        newest, earlier = inputs[roles[-1]] / "model", [inputs[role] for role in roles]
        return go_on(config, refresh, newest, inputs["policy"] / "model", inputs["problems"], earlier, iteration, workspace)

    return produce(
        store,
        "reward",
        VERSION,
        {"reward": config, "refresh": refresh, "iteration": iteration},
        {"policy": policy, "problems": problems, **dict(zip(roles, history, strict=True))},
        work,
        mode=mode,
    )
