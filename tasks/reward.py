"""Tasks `train-reward` and `refresh-reward`: the reward model and its continuation with replay (paper sections 4.1.2 to 4.1.4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import task

from data.store import BuildMode
from data.workspace import Workspace
from models.config import RefreshConfig, RewardConfig
from tasks.stage import Produced, produce

VERSION = 5


@task(name="train-reward")
def train_reward(store: str, config: RewardConfig, start: str, policy: str, problems: str, mode: BuildMode = "reuse") -> Produced:
    """Artifact: the first reward model (weights from `start`) and the reward data sampled from `policy`."""

    def work(space: Workspace, inputs: dict[str, Path]) -> dict[str, Any]:
        from models.reward_stage import train_reward as train

        return train(config, inputs["start"] / "model", inputs["policy"] / "model", inputs["problems"], space)

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
) -> Produced:
    """Artifact: the newest reward model of `history` (oldest first), continued on samples of `policy` with replay."""
    roles = [f"reward-{index}" for index in range(len(history))]

    def work(space: Workspace, inputs: dict[str, Path]) -> dict[str, Any]:
        from models.reward_stage import refresh_reward as go_on

        newest, earlier = inputs[roles[-1]] / "model", [inputs[role] for role in roles]
        return go_on(config, refresh, newest, inputs["policy"] / "model", inputs["problems"], earlier, iteration, space)

    return produce(
        store,
        "reward",
        VERSION,
        {"reward": config, "refresh": refresh, "iteration": iteration},
        {"policy": policy, "problems": problems, **dict(zip(roles, history, strict=True))},
        work,
        mode=mode,
    )
