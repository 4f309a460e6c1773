"""Credit by reward by refresh: the stages of each arm, and the stages that arms share."""

from __future__ import annotations

from pathlib import Path

import pytest

from mathquarry.data.report.sections.grid import FROZEN, REFRESHED, SHARED, ArmKey, name_of
from mathquarry.flows.experiments.compare import side_by_side
from mathquarry.flows.experiments.credit import arm_config, arms_of
from mathquarry.flows.recipe import Recipe, load_recipe
from tests.flows.test_iterate import Chain, chain

PROCESS = ArmKey("step-sum", "process", SHARED)


def recipe_of(*fields: str) -> Recipe:
    return load_recipe("tiny", ["iterations=3", "compare.seeds=[0, 1]", *fields])


@pytest.fixture
def compared(tmp_path: Path) -> Chain:
    run = chain(tmp_path, recipe_of())
    side_by_side(run, run.recipe, "credit")
    return run


def test_a_rule_has_no_steps_to_give_credit_to() -> None:
    assert [(arm.credit, arm.reward) for arm in arms_of(recipe_of().compare)] == [
        ("outcome", "rule"),
        ("outcome", "outcome"),
        ("step-sum", "outcome"),
        ("step-min", "outcome"),
        ("outcome", "process"),
        ("step-sum", "process"),
        ("step-min", "process"),
        ("outcome", "mixed"),
        ("step-sum", "mixed"),
        ("step-min", "mixed"),
    ]


def test_an_arm_is_credit_reward_and_seed_and_all_else_is_the_recipes() -> None:
    config = recipe_of().grpo
    rule, steps = arm_config(config, ArmKey("outcome", "rule", SHARED), 7, 0.1), arm_config(config, PROCESS, 7, 0.1)
    assert (rule.paradigm.reward, rule.supervision, rule.seed) == ("rule", "outcome", 7)
    assert (steps.paradigm.reward, steps.supervision, steps.credit) == ("model", "process", "sum")
    assert arm_config(config, PROCESS._replace(credit="step-min"), 7, 0.1).credit == "min"
    changed = {"paradigm", "supervision", "seed"}
    assert rule.model_dump(exclude=changed) == steps.model_dump(exclude=changed) == config.model_dump(exclude=changed)


def test_a_mixed_reward_is_the_process_model_with_a_share_of_the_rule() -> None:
    recipe = recipe_of("compare.rule_share=0.25")
    config = arm_config(recipe.grpo, PROCESS._replace(reward="mixed"), 0, recipe.compare.rule_share)
    assert [(term.kind, term.weight) for term in config.rewards] == [("model", 0.75), ("rule", 0.25)]
    assert config.supervision == "process"


def test_every_arm_has_every_iteration_and_shares_its_first(compared: Chain) -> None:
    made = compared.made("grpo")
    # Of a seed: the rule 3; each of the nine others 1 shared, and 2 refreshed and 2 frozen ones.
    assert len(made) == 2 * (3 + 9 * 5)
    for seed in (0, 1):
        first = made[name_of("grpo", PROCESS, seed, 1)]
        for model in (REFRESHED, FROZEN):
            second = made[name_of("grpo", PROCESS._replace(model=model), seed, 2)]
            assert second[1] == f"grpo/{name_of('grpo', PROCESS, seed, 1)}"
            assert second[0] == first[0]
            assert second[-1] == 2
    assert len(compared.made("evaluate")) == 1 + len(made)


def test_arms_with_one_reward_share_its_first_model_and_only_refreshed_ones_train_it_further(compared: Chain) -> None:
    rewards = compared.made("reward")
    first = [name for name in rewards if "+" not in name]
    assert sorted(first) == ["reward-outcome-0", "reward-outcome-1", "reward-process-0", "reward-process-1"]
    assert len(rewards) == 4 + 2 * 9 * 2
    assert all("refreshed" in name for name in rewards if "+" in name)
    grpo = compared.made("grpo")
    frozen, refreshed = (PROCESS._replace(model=model) for model in (FROZEN, REFRESHED))
    assert grpo[name_of("grpo", frozen, 1, 3)][2] == "reward/reward-process-1"
    assert grpo[name_of("grpo", refreshed, 1, 3)][2] == f"reward/{name_of('reward', refreshed, 1, 3)}"
    history = rewards[name_of("reward", refreshed, 1, 3)][4]
    assert history == ["reward/reward-process-1", f"reward/{name_of('reward', refreshed, 1, 2)}"]
    assert grpo[name_of("grpo", ArmKey("outcome", "rule", SHARED), 0, 3)][2] is None


@pytest.mark.parametrize(
    ("field", "grpo"),
    [
        ('compare.credits=["outcome"]', 2 * (3 + 3 * 5)),
        ('compare.rewards=["rule"]', 2 * 3),
        ('compare.reward_models=["frozen"]', 2 * (3 + 9 * 3)),
        ("iterations=1", 2 * 10),
    ],
)
def test_a_comparison_has_the_arms_that_its_recipe_names(field: str, grpo: int, tmp_path: Path) -> None:
    run = chain(tmp_path, recipe_of(field))
    side_by_side(run, run.recipe, "credit")
    assert len(run.made("grpo")) == grpo
