"""Algorithm 1 (paper section 4.1): iterations of reinforcement learning, from whatever a run has made already.

The pipeline does all of a recipe's iterations, a schedule one more; both come here. In the paper an iteration ends with the reward model's
refresh. Here the refresh comes when the next iteration starts, which is the same order; after the last there is none, since nothing would
use it. A reward model is trained only where something uses it: as the judge, or as what PPO's value model starts from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from flows.evaluate import evaluate_flow
from flows.grpo import grpo_flow
from flows.harness import harness_flow
from flows.reward import reward_flow, reward_refresh_flow

if TYPE_CHECKING:
    from flows.pipeline import Run
    from flows.recipe import Recipe


def iterate(run: Run, recipe: Recipe, made: Mapping[str, str], last: int) -> None:
    """Every stage from the state `made` to the end of iteration `last`.

    `made` maps names of stages to references: what supervised training made (`problems`, `pretrain`, `curate`, `sft`), and of earlier
    iterations `grpo-<iteration>` and `reward-<refreshes before it>`. A first reward model that the recipe asks for and that is not there is
    trained as if the recipe had asked for it from the start.
    """
    problems = made["problems"]
    done = iterations_done(made)
    policy = made[f"grpo-{done}" if done else "sft"]
    rewards = [made[f"reward-{number}"] for number in range(done) if f"reward-{number}" in made] or _first_reward(run, recipe, made)
    examples = made["curate"] if recipe.grpo.paradigm.data == "examples" else None
    for iteration in range(done + 1, last + 1):
        judge = None
        if recipe.grpo.paradigm.uses_reward_model:
            if iteration > 1 and recipe.refresh.enabled:
                refresh = (recipe.reward, recipe.refresh, policy, problems, list(rewards), iteration - 1)
                rewards.append(run.stage(f"reward-{iteration - 1}", reward_refresh_flow, *refresh))
            judge = rewards[-1]
        policy = run.stage(f"grpo-{iteration}", grpo_flow, recipe.grpo, policy, judge, problems, iteration, examples)
        score(run, recipe, f"rl-{iteration}", policy, problems)


def iterations_done(names: Iterable[str]) -> int:
    """How many iterations there are among the names of a run's stages."""
    numbers = (re.fullmatch(r"grpo-(\d+)", name) for name in names)
    return max((int(number[1]) for number in numbers if number), default=0)


def score(run: Run, recipe: Recipe, name: str, policy: str, problems: str) -> None:
    """Score a policy on the held-out questions, and on the harness' benchmarks where the recipe names any."""
    run.stage(f"evaluate-{name}", evaluate_flow, recipe.evaluate, policy, problems)
    if recipe.harness.tasks:
        run.stage(f"harness-{name}", harness_flow, recipe.harness, policy)


def _first_reward(run: Run, recipe: Recipe, made: Mapping[str, str]) -> list[str]:
    if not recipe.grpo.paradigm.uses_reward_model:
        return []
    start = made["pretrain" if recipe.reward.initialise_from == "base" else "sft"]
    return [run.stage("reward-0", reward_flow, recipe.reward, start, made["sft"], made["problems"])]
