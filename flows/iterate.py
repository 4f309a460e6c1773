"""Algorithm 1 (paper section 4.1): iterations of reinforcement learning, continuing from the artifacts that a run has.

The pipeline runs all of a recipe's iterations; a schedule runs one more. Both use this module. In the paper, an iteration ends with the
refresh of the reward model. Here the next iteration starts with it, which is the same order, and the last iteration has no unused refresh.
A reward model is only trained if it is used: as a reward, or to initialise PPO's value model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from mathquarry.flows.recipe import Recipe
from mathquarry.flows.recorded_run import Run
from mathquarry.flows.stages.evaluate import evaluate_flow
from mathquarry.flows.stages.grpo import grpo_flow
from mathquarry.flows.stages.harness import harness_flow
from mathquarry.flows.stages.made import Made
from mathquarry.flows.stages.reward import reward_refresh_flow


def iterate(run: Run, recipe: Recipe, made: Made, last: int) -> None:
    """Run every stage from the artifacts in `made` to the end of iteration `last`.

    `made.before` maps names of a run's stages to references: `grpo-<iteration>` and `reward-<number of refreshes>` for earlier iterations.
    If the recipe needs a first reward model and there is none, it is trained in the same way as at the start of a run.
    """
    before = made.before
    done = iterations_done(before)
    policy = before[f"grpo-{done}"] if done else made.policy
    uses_reward = recipe.grpo.uses_reward_model
    refreshes = [f"reward-{number}" for number in range(1, done)]
    rewards = [made.reward, *(before[name] for name in refreshes if name in before)] if uses_reward else []
    examples = made.examples if recipe.grpo.paradigm.data == "examples" else None
    for iteration in range(done + 1, last + 1):
        reward_model = None
        if uses_reward:
            if iteration > 1 and recipe.refresh.enabled:
                refresh = (recipe.reward, recipe.refresh, policy, made.problems, list(rewards), iteration - 1)
                rewards.append(run.stage(f"reward-{iteration - 1}", reward_refresh_flow, *refresh))
            reward_model = rewards[-1]
        policy = run.stage(f"grpo-{iteration}", grpo_flow, recipe.grpo, policy, reward_model, made.problems, iteration, examples)
        score(run, recipe, f"rl-{iteration}", policy, made)


def iterations_done(names: Iterable[str]) -> int:
    """Return the number of iterations among the names of a run's stages."""
    numbers = (re.fullmatch(r"grpo-(\d+)", name) for name in names)
    return max((int(number[1]) for number in numbers if number), default=0)


def score(run: Run, recipe: Recipe, name: str, policy: str, made: Made) -> None:
    """Score a policy on the held-out questions and on the harness's benchmarks, if the recipe has any; unless the run ends before."""
    if run.wants("evaluate"):
        run.stage(f"evaluate-{name}", evaluate_flow, recipe.evaluate, policy, made.problems)
    if recipe.harness.tasks and run.wants("harness"):
        run.stage(f"harness-{name}", harness_flow, recipe.harness, policy)
