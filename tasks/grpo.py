"""Task `grpo`: one iteration of group relative policy optimisation (paper Algorithm 1)."""

from __future__ import annotations

from prefect import task

from data.store import BuildMode
from models.config import GRPOConfig
from tasks.stage import Produced, produce

VERSION = 1


@task(name="grpo")
def grpo(store: str, config: GRPOConfig, policy: str, reward: str, problems: str, iteration: int, mode: BuildMode = "reuse") -> Produced:
    """Artifact: the policy after this iteration, and every rollout."""
    from models.rl.grpo import grpo_iteration

    return produce(
        store,
        "grpo",
        VERSION,
        {"grpo": config, "iteration": iteration},
        {"policy": policy, "reward": reward, "problems": problems},
        lambda space, inputs: grpo_iteration(
            config, inputs["policy"] / "model", inputs["reward"] / "model", inputs["problems"], iteration, space
        ),
        mode=mode,
    )
