"""Task `grpo`: one iteration of group relative policy optimization (paper Algorithm 1), or of another method in the same framework."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import task

from mathquarry.data.store.store import BuildMode
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rl.rewards.config import FunctionReward
from mathquarry.models.rl.rewards.function import function_source
from mathquarry.tasks.stage import StageResult, produce

VERSION = 4


@task(name="grpo")
def grpo(
    store: str,
    config: GRPOConfig,
    policy: str,
    reward: str | None,
    problems: str,
    iteration: int,
    examples: str | None = None,
    mode: BuildMode = "reuse",
) -> StageResult:
    """Artifact: the policy after this iteration, and every rollout. `reward` and `examples` are for methods that use them."""

    def work(workspace: Workspace, folders: dict[str, Path]) -> dict[str, Any]:
        from mathquarry.models.rl.grpo import grpo_iteration

        reward_model = folders["reward"] / "model" if reward is not None else None
        return grpo_iteration(
            config, folders["policy"] / "model", reward_model, folders["problems"], iteration, workspace, folders.get("examples")
        )

    inputs = {"policy": policy, "problems": problems}
    if reward is not None:
        inputs["reward"] = reward
    if examples is not None:
        inputs["examples"] = examples
    functions = [reward_model.function for reward_model in config.rewards if isinstance(reward_model, FunctionReward)]
    return produce(
        store,
        "grpo",
        VERSION,
        {"grpo": config, "iteration": iteration},
        inputs,
        work,
        sources=[function_source(function) for function in functions],
        mode=mode,
    )
