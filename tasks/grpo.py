"""Task `grpo`: one iteration of group relative policy optimisation (paper Algorithm 1), or of another method in its frame."""

from __future__ import annotations

from prefect import task

from data.store import BuildMode
from models.config import GRPOConfig
from tasks.stage import Produced, produce

VERSION = 2


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
    from models.rl.grpo import grpo_iteration

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
        lambda space, folders: grpo_iteration(
            config,
            folders["policy"] / "model",
            folders["reward"] / "model" if reward is not None else None,
            folders["problems"],
            iteration,
            space,
            folders.get("examples"),
        ),
        mode=mode,
    )
