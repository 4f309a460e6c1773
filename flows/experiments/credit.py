"""Compares credit assignments, with each reward and with refreshed and frozen reward models: iterations of GRPO from one fine-tuned policy,
one arm per combination, with several seeds (paper sections 4.1.2 to 4.1.4).

Arms with a refreshed and a frozen reward model share their first iteration, and arms with the same reward share the first reward model.
Each is made once and found by its key. So a comparison can be interrupted at any time, and arms, iterations or seeds can be added later.
"""

from __future__ import annotations

from collections.abc import Iterator

from mathquarry.data.report.sections.grid import REFRESHED, SHARED, ArmKey, name_of
from mathquarry.flows.recipe import Recipe
from mathquarry.flows.recorded_run import Run
from mathquarry.flows.stages.evaluate import evaluate_flow
from mathquarry.flows.stages.grpo import grpo_flow
from mathquarry.flows.stages.made import Made
from mathquarry.flows.stages.reward import reward_flow, reward_refresh_flow
from mathquarry.models.config import Supervision
from mathquarry.models.experiments import CompareConfig
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rl.rewards.config import ModelReward, RuleReward

SUPERVISION: dict[str, Supervision] = {"outcome": "outcome", "process": "process", "mixed": "process"}
"""Supervision of the reward model, for each reward that has one."""


def compare_credit(run: Run, recipe: Recipe, trained: Made, start: str) -> None:
    """Run every iteration of every arm and seed. `start` is the model that reward models are initialised from."""
    for seed in recipe.compare.seeds:
        first: dict[str, str] = {}
        for arm in arms_of(recipe.compare):
            supervision = SUPERVISION.get(arm.reward)
            if supervision and supervision not in first:
                reward_model = recipe.reward.model_copy(update={"supervision": supervision, "seed": seed})
                name = f"reward-{supervision}-{seed}"
                first[supervision] = run.stage(name, reward_flow, reward_model, start, trained.policy, trained.problems)
            _iterate(run, recipe, trained, arm, seed, first.get(supervision or ""))


def arms_of(compared: CompareConfig) -> Iterator[ArmKey]:
    """Yield each credit assignment with each reward. The rule has no step rewards, so it is only used with outcomes."""
    for reward in compared.rewards:
        for credit in compared.credits:
            if reward != "rule" or credit == "outcome":
                yield ArmKey(credit, reward, SHARED)


def arm_config(config: GRPOConfig, arm: ArmKey, seed: int, rule_share: float) -> GRPOConfig:
    """Return the `grpo` config of an arm."""
    mixed = [ModelReward(weight=1 - rule_share), RuleReward(weight=rule_share)] if arm.reward == "mixed" else []
    paradigm = config.paradigm.model_copy(update={"reward": "rule" if arm.reward == "rule" else "model"})
    supervision = "outcome" if arm.credit == "outcome" else "process"
    credit = "min" if arm.credit == "step-min" else "sum"
    changes = {"paradigm": paradigm, "rewards": mixed, "supervision": supervision, "credit": credit, "seed": seed}
    return config.model_copy(update=changes)


def _iterate(run: Run, recipe: Recipe, trained: Made, shared: ArmKey, seed: int, first: str | None) -> None:
    """Run all iterations of one credit assignment and reward: the first, then one chain for each kind of reward model."""
    config = arm_config(recipe.grpo, shared, seed, recipe.compare.rule_share)
    reward_config = recipe.reward.model_copy(update={"supervision": SUPERVISION[shared.reward], "seed": seed}) if first else None

    def improve(arm: ArmKey, number: int, policy: str, reward: str | None) -> str:
        improved = run.stage(name_of("grpo", arm, seed, number), grpo_flow, config, policy, reward, trained.problems, number)
        run.stage(name_of("evaluate", arm, seed, number), evaluate_flow, recipe.evaluate, improved, trained.problems)
        return improved

    begun = improve(shared, 1, trained.policy, first)
    for model in recipe.compare.reward_models if reward_config else [SHARED]:
        arm, policy, rewards = shared._replace(model=model), begun, [first] if first else []
        for number in range(2, recipe.iterations + 1):
            if model == REFRESHED:
                refresh = (reward_config, recipe.refresh, policy, trained.problems, list(rewards), number - 1)
                rewards.append(run.stage(name_of("reward", arm, seed, number), reward_refresh_flow, *refresh))
            policy = improve(arm, number, policy, rewards[-1] if rewards else None)
