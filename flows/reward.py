"""Flow `reward`: the reward model, first trained and then refreshed with replay."""

from __future__ import annotations

from prefect import flow

import tasks.reward
from data.store import BuildMode
from models.config import RefreshConfig, RewardConfig
from tasks.stage import Produced


@flow(name="reward", flow_run_name="reward")
def reward_flow(store: str, config: RewardConfig, start: str, policy: str, problems: str, mode: BuildMode = "reuse") -> Produced:
    """Train the first reward model: weights of `start`, data sampled from `policy`."""
    return tasks.reward.train_reward(store, config, start, policy, problems, mode)


@flow(name="reward-refresh", flow_run_name="reward-refresh-{iteration}")
def reward_refresh_flow(
    store: str,
    config: RewardConfig,
    refresh: RefreshConfig,
    policy: str,
    problems: str,
    history: list[str],
    iteration: int,
    mode: BuildMode = "reuse",
) -> Produced:
    """Continue the newest reward model of `history` (oldest first) on samples of `policy`, mixed with replay of all earlier data."""
    return tasks.reward.refresh_reward(store, config, refresh, policy, problems, history, iteration, mode)
