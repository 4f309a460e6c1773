"""Flow `grpo`: one iteration of Algorithm 1."""

from __future__ import annotations

from prefect import flow

import tasks.grpo
from data.store import BuildMode
from models.config import GRPOConfig
from tasks.stage import Produced


@flow(name="grpo", flow_run_name="grpo")
def grpo_flow(
    store: str, config: GRPOConfig, policy: str, reward: str, problems: str, iteration: int, mode: BuildMode = "reuse"
) -> Produced:
    """Improve an `sft` or `grpo` artifact against a `reward` artifact."""
    return tasks.grpo.grpo(store, config, policy, reward, problems, iteration, mode)
