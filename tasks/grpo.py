"""Task `grpo`: one iteration of group relative policy optimisation (paper Algorithm 1), or of another method in its frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import task

from data.store import BuildMode
from data.workspace import Workspace
from models.config import GRPOConfig
from tasks.stage import Produced, produce

VERSION = 3


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
) -> Produced:
    """Artifact: the policy after this iteration, and every rollout. `reward` and `examples` are for methods that use them."""

    def work(space: Workspace, folders: dict[str, Path]) -> dict[str, Any]:
        from models.rl.grpo import grpo_iteration

        judge = folders["reward"] / "model" if reward is not None else None
        return grpo_iteration(config, folders["policy"] / "model", judge, folders["problems"], iteration, space, folders.get("examples"))

    inputs = {"policy": policy, "problems": problems}
    if reward is not None:
        inputs["reward"] = reward
    if examples is not None:
        inputs["examples"] = examples
    return produce(
        store,
        "grpo",
        VERSION,
        {"grpo": config, "iteration": iteration},
        inputs,
        work,
        mode=mode,
    )
